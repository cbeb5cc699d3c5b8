// SPDX-License-Identifier: Apache-2.0
#include "algos/survivability.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "algos/base/check.h"

namespace evenkeel::algos {

namespace {

// Usable slots of each domain, most first.
std::vector<int> RoomOfDomains(const Shape& shape, std::span<const int32_t> domain_of_rank,
                               std::span<const int> usable_slots) {
  std::vector<int> ranks(domain_of_rank.size());
  std::iota(ranks.begin(), ranks.end(), 0);
  std::ranges::stable_sort(ranks, {}, [&](int rank) { return domain_of_rank[static_cast<size_t>(rank)]; });
  std::vector<int> room;
  for (size_t i = 0; i < ranks.size(); ++i) {
    const size_t rank = static_cast<size_t>(ranks[i]);
    const bool is_new = i == 0 || domain_of_rank[rank] != domain_of_rank[static_cast<size_t>(ranks[i - 1])];
    if (is_new) room.push_back(0);
    room.back() += usable_slots.empty() ? shape.slots_per_rank : usable_slots[rank];
  }
  std::ranges::sort(room, std::greater<>());
  return room;
}

Losses LossesOf(const Placement& placement, const Shape& shape, std::span<const int32_t> domain_of_rank,
                std::span<const int> usable_slots) {
  const std::vector<int> domains = CountDomains(placement, shape, domain_of_rank);
  const std::vector<int> room = RoomOfDomains(shape, domain_of_rank, usable_slots);
  Losses losses;
  losses.serving = *std::ranges::min_element(domains) - 1;
  for (size_t e = 0; e < domains.size(); ++e) {
    if (domains[e] == losses.serving + 1) losses.at_risk.push_back(ExpertId(static_cast<int32_t>(e)));
  }
  // The domains of most room are lost first; each loss leaves less, so the first that leaves too little ends it.
  int64_t left = std::accumulate(room.begin(), room.end(), int64_t{0});
  for (size_t lost = 0; left > shape.num_experts && losses.rebalancing < losses.serving; ++lost) {
    ++losses.rebalancing;
    if (lost == room.size()) break;
    left -= room[lost];
  }
  return losses;
}

}  // namespace

Survivability SurvivabilityOf(const Placement& placement, const Shape& shape, std::span<const int32_t> host_of_rank,
                              std::span<const int> usable_slots) {
  return {.ranks = LossesOf(placement, shape, RanksAsDomains(shape), usable_slots),
          .hosts = LossesOf(placement, shape, host_of_rank, usable_slots)};
}

std::vector<int> CountDomains(const Placement& placement, const Shape& shape, std::span<const int32_t> domain_of_rank) {
  EVENKEEL_CHECK(placement.expert_of_slot.size() == static_cast<size_t>(shape.num_slots()));
  EVENKEEL_CHECK(domain_of_rank.size() == static_cast<size_t>(shape.num_ranks));
  const Replicas replicas = Invert(placement, shape.num_experts);
  std::vector<int> counts;
  std::vector<int32_t> domains;
  for (int e = 0; e < shape.num_experts; ++e) {
    domains.clear();
    for (SlotIdx slot : replicas.slots_of(ExpertId(e))) domains.push_back(domain_of_rank[shape.RankOf(slot).idx()]);
    std::ranges::sort(domains);
    domains.erase(std::unique(domains.begin(), domains.end()), domains.end());
    counts.push_back(static_cast<int>(domains.size()));
  }
  return counts;
}

std::vector<int32_t> RanksAsDomains(const Shape& shape) {
  std::vector<int32_t> domains(static_cast<size_t>(shape.num_ranks));
  std::iota(domains.begin(), domains.end(), 0);
  return domains;
}

}  // namespace evenkeel::algos
