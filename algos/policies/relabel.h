// SPDX-License-Identifier: Apache-2.0
//
// Relabel: gives planned rank contents to real ranks so that as many experts as possible stay where they are.
//
// To a planner ranks are alike: which of them gets which content changes no load, but every expert that a rank
// already holds is one move less. Contents are permuted within a node and nodes as a whole (only among nodes
// with equally many living ranks), so that replicas planned for different nodes stay on different ones. Within
// a rank every expert that stays keeps its slot; the others fill the remaining slots in ascending order.
//
// Order:     ties go to the lowest rank (assignment.h).
#pragma once

#include <cstdint>
#include <vector>

#include "algos/base/ids.h"
#include "algos/placement.h"
#include "algos/policies/assignment.h"

namespace evenkeel::algos {

// Where contents may go: the living ranks, node by node.
struct Cluster {
  Shape shape;
  std::vector<std::vector<RankId>> nodes;  // living ranks of each node, ascending
};

class Relabeler {
 public:
  // Requires: `cluster` outlives this.
  explicit Relabeler(const Cluster& cluster) : cluster_(cluster) {}

  // `contents` [num_ranks]: the experts planned for each rank, at most slots_per_rank; empty on dead ranks. `current` is what is there now, or null. Slots of dead ranks come out blank.
  Placement Apply(const std::vector<std::vector<ExpertId>>& contents, const Placement* current);

 private:
  void CountKept(const std::vector<std::vector<ExpertId>>& contents, const Placement& current);
  void AssignNodes();
  void AssignRanks(size_t from_node, size_t to_node);
  int32_t BestKept(size_t from_node, size_t to_node);
  void PlaceRank(const std::vector<ExpertId>& content, RankId rank, const Placement* current, Placement& placed);

  const Cluster& cluster_;
  std::vector<int32_t> kept_;      // [planned rank][real rank]: experts that would stay
  std::vector<uint32_t> node_of_;  // real node of each planned one
  std::vector<RankId> rank_of_;    // real rank of each planned one
  std::vector<int32_t> node_values_, rank_values_;
  std::vector<ExpertId> coming_;
  Assigner node_assigner_, rank_assigner_;
};

}  // namespace evenkeel::algos
