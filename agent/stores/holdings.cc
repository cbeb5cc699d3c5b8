// SPDX-License-Identifier: Apache-2.0
#include "agent/stores/holdings.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace evenkeel::agent {

namespace {

// Ascending, each once.
std::vector<RankId> HoldersOf(const algos::LayerMap& map, const algos::Shape& shape, ExpertId expert) {
  std::vector<RankId> holders;
  for (const SlotIdx slot : map.slots_of(expert)) {
    const RankId rank = shape.RankOf(slot);
    if (holders.empty() || holders.back() != rank) holders.push_back(rank);
  }
  return holders;
}

}  // namespace

std::vector<RankId> OwnersOf(const algos::LayerMap& map, const algos::Shape& shape) {
  std::vector<std::pair<size_t, ExpertId>> order;
  std::vector<std::vector<RankId>> holders;
  for (int e = 0; e < shape.num_experts; ++e) {
    holders.push_back(HoldersOf(map, shape, ExpertId(e)));
    order.emplace_back(holders.back().size(), ExpertId(e));
  }
  std::sort(order.begin(), order.end());
  std::vector<RankId> owners(static_cast<size_t>(shape.num_experts));
  std::vector<int> num_owned(static_cast<size_t>(shape.num_ranks), 0);
  for (const auto& [count, expert] : order) {
    if (count == 0) continue;
    const std::vector<RankId>& candidates = holders[expert.idx()];
    const RankId owner = *std::min_element(candidates.begin(), candidates.end(), [&](RankId a, RankId b) {
      return std::pair(num_owned[a.idx()], a) < std::pair(num_owned[b.idx()], b);
    });
    owners[expert.idx()] = owner;
    ++num_owned[owner.idx()];
  }
  return owners;
}

RankId FillerOf(const algos::LayerMap& map, const algos::Shape& shape, ExpertId expert, RankId owner,
                std::span<const RankId> ranks) {
  if (std::binary_search(ranks.begin(), ranks.end(), owner)) return owner;
  for (const RankId rank : HoldersOf(map, shape, expert)) {
    if (std::binary_search(ranks.begin(), ranks.end(), rank)) return rank;
  }
  return RankId();
}

Worth WorthOf(RankId owner, RankId filler, std::span<const RankId> ranks) {
  if (!filler.valid()) return Worth::kElsewhere;
  return std::binary_search(ranks.begin(), ranks.end(), owner) ? Worth::kOwned : Worth::kHeld;
}

std::vector<ExpertRange> RangesOf(const std::vector<bool>& wanted, int count_max) {
  std::vector<ExpertRange> ranges;
  for (size_t e = 0; e < wanted.size(); ++e) {
    if (!wanted[e]) continue;
    const bool goes_on = e > 0 && wanted[e - 1] && ranges.back().count < count_max;
    if (goes_on) {
      ++ranges.back().count;
    } else {
      ranges.push_back({ExpertId(static_cast<int32_t>(e)), 1});
    }
  }
  return ranges;
}

}  // namespace evenkeel::agent
