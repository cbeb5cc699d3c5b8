// SPDX-License-Identifier: Apache-2.0
//
// LayerCosts: what every rank of one layer costs with tokens split evenly, kept up to date as slots change.
//
// A rank costs (Problem::cost.per_expert x experts in use + per_token x tokens) / its capacity. Beside the largest
// cost stands a potential, the sum of the sixteenth powers, which falls even where several ranks share the largest.
//
// Order:     sums are formed in the order of slots and ranks: equal placements have equal costs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "algos/base/ids.h"
#include "algos/placement.h"
#include "algos/problem.h"

namespace evenkeel::algos {

// A slot and what it is to hold.
struct SlotChange {
  SlotIdx slot;
  ExpertId expert;  // kNoExpert: blank

  friend bool operator==(const SlotChange&, const SlotChange&) = default;
};

class LayerCosts {
 public:
  // `tokens` of every expert. Requires: both outlive this.
  LayerCosts(const Problem& problem, std::span<const uint64_t> tokens);

  void Reset(const Placement& placement);
  void Set(SlotChange change);

  // The largest cost and the potential, if the changes were made one after another. Requires: different slots.
  struct Outcome {
    double max = 0;
    double potential = 0;
  };
  Outcome After(std::span<const SlotChange> changes);
  Outcome Now() const;

  const Placement& placement() const { return placement_; }
  ExpertId expert(SlotIdx slot) const { return placement_.expert_of_slot[slot.idx()]; }
  int num_replicas(ExpertId expert) const { return static_cast<int>(slots_of_[expert.idx()].size()); }
  std::span<const SlotIdx> slots_of(ExpertId expert) const { return slots_of_[expert.idx()]; }  // in no order
  bool Holds(RankId rank, ExpertId expert) const;
  double cost(RankId rank) const { return costs_[rank.idx()]; }
  uint64_t tokens(ExpertId expert) const { return tokens_[expert.idx()]; }

 private:
  void RefreshRanksOf(ExpertId expert);
  void RefreshRank(RankId rank);

  const Problem& problem_;
  const std::span<const uint64_t> tokens_;
  Placement placement_;
  std::vector<std::vector<SlotIdx>> slots_of_;  // by expert
  std::vector<double> part_;                    // by expert: tokens of one replica
  std::vector<double> costs_;                   // by rank
  double scale_ = 1;                            // of the potential: the largest cost at Reset
  std::vector<SlotChange> undone_;
};

}  // namespace evenkeel::algos
