// SPDX-License-Identifier: Apache-2.0
//
// LayerSlots: one layer's placement while it is being changed slot by slot, with its inverse.
//
// Order:     ranks of an expert are ascending, whatever the order of changes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "algos/base/ids.h"
#include "algos/placement.h"

namespace evenkeel::algos {

class LayerSlots {
 public:
  LayerSlots() = default;
  // Requires: `placement` within `shape`.
  LayerSlots(const Shape& shape, const Placement& placement) : shape_(shape), placement_(placement) {
    ranks_of_.resize(static_cast<size_t>(shape.num_experts));
    for (size_t s = 0; s < placement.expert_of_slot.size(); ++s) {
      const ExpertId expert = placement.expert_of_slot[s];
      if (expert.valid()) ranks_of_[expert.idx()].push_back(RankOf(s));
    }
  }

  const Shape& shape() const { return shape_; }
  const Placement& placement() const { return placement_; }
  ExpertId expert(SlotIdx slot) const { return placement_.expert_of_slot[slot.idx()]; }
  // One entry for each replica, so a rank comes twice where an expert is doubled on it.
  std::span<const int32_t> ranks_of(ExpertId expert) const { return ranks_of_[expert.idx()]; }
  int num_replicas(ExpertId expert) const { return static_cast<int>(ranks_of_[expert.idx()].size()); }
  bool Holds(RankId rank, ExpertId expert) const {
    return std::ranges::find(ranks_of_[expert.idx()], rank.value()) != ranks_of_[expert.idx()].end();
  }

  // Returns what the slot held.
  ExpertId Set(SlotIdx slot, ExpertId expert) {
    ExpertId& held = placement_.expert_of_slot[slot.idx()];
    const ExpertId before = held;
    const int32_t rank = RankOf(slot.idx());
    if (before.valid()) {
      auto& ranks = ranks_of_[before.idx()];
      ranks.erase(std::ranges::find(ranks, rank));
    }
    if (expert.valid()) {
      auto& ranks = ranks_of_[expert.idx()];
      ranks.insert(std::ranges::upper_bound(ranks, rank), rank);
    }
    held = expert;
    return before;
  }

 private:
  int32_t RankOf(size_t slot) const { return static_cast<int32_t>(slot / static_cast<size_t>(shape_.slots_per_rank)); }

  Shape shape_;
  Placement placement_;
  std::vector<std::vector<int32_t>> ranks_of_;  // by expert
};

}  // namespace evenkeel::algos
