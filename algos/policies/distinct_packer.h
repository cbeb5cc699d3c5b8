// SPDX-License-Identifier: Apache-2.0
//
// DistinctPacker: replicates experts by load and packs the replicas onto ranks, none twice on one.
//
// Weights are integers: the load of a layer scaled so that its sum is about 2^38, plus a little for every expert,
// so that idle experts are replicated in turn too. A replica weighs its expert's weight divided by its replicas.
//
// Requires:  experts and ranks below 2^24 - 1; room for every expert: ranks x slots_per_rank >= experts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "algos/base/ids.h"
#include "algos/policies/ordering.h"

namespace evenkeel::algos {

// Scaled weight of every expert of a layer: [num_experts].
void ScaleWeights(std::span<const uint64_t> tokens, std::vector<uint64_t>& weights);

// Where to pack: some of the ranks, and which node each of them belongs to.
struct PackTarget {
  std::span<const RankId> ranks;   // ascending, at least one
  std::span<const uint32_t> node;  // of every rank of the group, by rank
  int slots_per_rank = 0;
};

class DistinctPacker {
 public:
  // Packs `experts`, whose weights are weights[expert], and appends them to contents[rank].
  void Pack(std::span<const ExpertId> experts, std::span<const uint64_t> weights, const PackTarget& target,
            std::vector<std::vector<ExpertId>>& contents);

 private:
  struct Replica {
    ExpertId expert;
    uint64_t weight = 0;
  };

  void Replicate(std::span<const ExpertId> experts, std::span<const uint64_t> weights);
  void PlaceOne(Replica replica);
  void PlaceApart(Replica replica, size_t count);
  void MakeRoom(Replica replica);

  bool IsFull(size_t i) const { return items_[i].size() == static_cast<size_t>(target_.slots_per_rank); }
  bool Holds(size_t i, ExpertId expert) const;
  void Put(size_t i, Replica replica);
  void Refresh(size_t i);  // rank i is a candidate again, if it has room
  void Withdraw(size_t i);

  PackTarget target_;
  std::vector<uint32_t> counts_;  // replicas, by position in `experts`
  std::vector<uint64_t> order_;   // heaviest replica first: weight, position
  MinTree heaviest_, lightest_;
  HighWordSorter sorter_;
  std::vector<std::vector<Replica>> items_;  // by position in target_.ranks
  std::vector<uint64_t> loads_;
  std::vector<size_t> withdrawn_;  // ranks that may not take the expert at hand, or not yet
};

}  // namespace evenkeel::algos
