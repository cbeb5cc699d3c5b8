// SPDX-License-Identifier: Apache-2.0
//
// LayerMap: one layer as engines use it: for each expert its live replicas and how tokens are shared among them.
//
// A position p is a 32-bit number, uniform over all 2^32 values. A routed copy of expert e at position p goes to
// the first replica whose inclusive bound is not below p. So k replicas have k-1 bounds that matter and the last
// bound is always 2^32 - 1; each share is at least one position (protocol, rule 30). A slot that may not be used
// is absent: there is no share of zero. An expert without a live replica has no slots (its tokens route to -1).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"

#include "algos/base/ids.h"
#include "algos/placement.h"

namespace evenkeel::algos {

struct LayerMap {
  std::vector<int32_t> offsets;  // [num_experts + 1], into slots and bounds
  std::vector<SlotIdx> slots;    // live replicas, ascending within an expert
  std::vector<uint32_t> bounds;  // inclusive upper bounds, strictly ascending within an expert, last one 2^32 - 1

  int num_replicas(ExpertId expert) const { return offsets[expert.idx() + 1] - offsets[expert.idx()]; }
  std::span<const SlotIdx> slots_of(ExpertId expert) const;
  // Positions that go to the replica at index `replica` of slots; 2^32 for a sole replica.
  uint64_t ShareUnits(ExpertId expert, int replica) const;

  friend bool operator==(const LayerMap&, const LayerMap&) = default;
};

inline constexpr uint64_t kShareUnits = uint64_t{1} << 32;

// Shares of one layer: fractions parallel to `Replicas::slots` (or LayerMap::slots); they add up to 1 per expert.
using Shares = std::vector<double>;

// The map in which every expert of `placement` is shared evenly among its slots.
LayerMap EvenMap(const Placement& placement, int num_experts);

// The map of `placement` with `shares` (parallel to Invert(placement).slots) rounded to units, each at least one.
// Requires: shares finite, not negative, one per replica.
LayerMap SharedMap(const Placement& placement, int num_experts, std::span<const double> shares);

// The placement that `map` uses: slots it does not name are blank.
Placement PlacementOf(const LayerMap& map, int num_slots);

// Everything the first paragraph promises, against `shape`. Experts without replicas are errors unless allowed.
struct MapRules {
  bool allow_dead_experts = false;
};
absl::Status Validate(const LayerMap& map, const Shape& shape, MapRules rules = {});

// Equal maps, equal digests: what acknowledgements name (protocol, rule 3).
uint64_t DigestOf(const LayerMap& map);
// Digest of a whole group's maps, given those of its layers in order.
uint64_t DigestOf(std::span<const uint64_t> layer_digests);

// Expected tokens per rank when `tokens_of_expert` [num_experts] follow `map`: [num_ranks].
std::vector<double> RankLoads(const LayerMap& map, const Shape& shape, std::span<const uint64_t> tokens_of_expert);

}  // namespace evenkeel::algos
