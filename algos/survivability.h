// SPDX-License-Identifier: Apache-2.0
//
// Survivability: how many ranks, or hosts, one layer may lose at once without an expert losing its last live replica.
//
// Ranks fall by domains: each alone, or all of a host together. An expert survives the loss of any k domains exactly if
// its live replicas are on more than k. So a layer survives any k if each of its experts does, and the experts on
// fewest domains are those at risk.
//
// Order:     experts ascending.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "algos/base/ids.h"
#include "algos/placement.h"

namespace evenkeel::algos {

// Of losses of one kind.
struct Losses {
  // Any so many domains may be lost and every expert still has a live replica; -1: one has none as it is.
  int serving = -1;
  // Any so many, and the rest also has a slot more than there are experts, so that anything can still be moved
  // (protocol, rule 27); -1: it has none as it is. At most `serving`.
  int rebalancing = -1;
  std::vector<ExpertId> at_risk;  // that the loss of serving + 1 domains could take

  friend bool operator==(const Losses&, const Losses&) = default;
};

struct Survivability {
  Losses ranks;
  Losses hosts;

  friend bool operator==(const Survivability&, const Survivability&) = default;
};

// `placement` holds live replicas alone. `host_of_rank` [num_ranks]: equal for ranks that fall together. `usable_slots`
// [num_ranks]: slots that may hold an expert (0 for ranks that take no part), or empty: all of them.
Survivability SurvivabilityOf(const Placement& placement, const Shape& shape, std::span<const int32_t> host_of_rank,
                              std::span<const int> usable_slots = {});

// On how many domains each expert is: [num_experts].
std::vector<int> CountDomains(const Placement& placement, const Shape& shape, std::span<const int32_t> domain_of_rank);

// [num_ranks] each rank a domain of its own.
std::vector<int32_t> RanksAsDomains(const Shape& shape);

}  // namespace evenkeel::algos
