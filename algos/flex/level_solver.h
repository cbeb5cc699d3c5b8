// SPDX-License-Identifier: Apache-2.0
//
// LevelSolver: how evenly shares can fill a layer's ranks, fast enough to be asked thousands of times.
//
// The same problem as shares.h, with ranks of unequal speed and a cost for each replica in use, and for many loads
// of one placement. A rank's level is its cost over its capacity, in units of what perfect balance would give.
// Shares bring the levels into groups: within a group all are equal, and no share can move work from a fuller
// group to an emptier one. That vector of levels is best at once for the maximum, for the sum of squares and for
// every other measure that likes even loads. It is found by dividing, as share_flow.h describes.
//
// Exact:     to a unit of the whole numbers it counts in; callers scale loads so that a rank has about 2^20.
// Order:     ties go to the lowest id; same input, same result.
// Threads:   none; scratch is kept from call to call.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "algos/layer_map.h"
#include "algos/placement.h"
#include "algos/share_flow.h"

namespace evenkeel::algos {

class LevelSolver {
 public:
  // `speeds` [num_ranks]: relative, 0 for ranks that take no part; their sum below 2^24.
  explicit LevelSolver(std::span<const int32_t> speeds);

  // Takes in the placement. Requires: within `shape`; no replica on ranks of speed 0.
  void Wire(const Shape& shape, const Placement& placement);

  // Spreads `tokens` [num_experts] over what was wired; each replica of an expert with tokens costs `replica_cost`
  // besides. `start` [num_slots]: tokens of each slot to start from and to keep to as far as they fit; empty: even.
  // Ranks that can all be brought below `settle` times the highest level are not balanced among each other: their
  // levels come out as their mean; 0: all are balanced.
  // Requires: costs whose sum times the largest speed is below 2^62.
  void Solve(std::span<const int64_t> tokens, int64_t replica_cost = 0, std::span<const int64_t> start = {},
             double settle = 0);

  // Of the last Solve. Level 1 is perfect balance.
  double level(int32_t rank) const { return levels_[static_cast<size_t>(rank)]; }
  int32_t group(int32_t rank) const { return flow_.group_of_rank(rank); }
  int32_t group_speed(int32_t rank) const { return group_speeds_[static_cast<size_t>(group(rank))]; }
  double max_level() const { return max_level_; }

  // Tokens of each slot, [num_slots]; left as they are for experts with one replica.
  void CopyFlows(std::span<int64_t> flows) const;
  // Parallel to Replicas::slots of the placement wired.
  Shares SharesOf() const;

 private:
  using Group = ShareFlow::Group;

  struct Totals {
    int64_t cost = 0, speed = 0;
  };

  void Load(std::span<const int64_t> tokens, int64_t replica_cost, std::span<const int64_t> start);
  Totals TotalsOf(const Group& group) const;
  bool Fill(const Group& group, int64_t cost, int64_t speed);
  void Settle(const Group& group, double level, int64_t speed);

  const std::vector<int32_t> speeds_;
  std::vector<uint8_t> takes_part_;  // [num_ranks]
  // Of the placement wired.
  std::vector<int32_t> sole_rank_;        // by expert; -1: none, -2: several
  std::vector<int32_t> offsets_, slots_;  // by expert, as Replicas has them
  ShareFlow flow_;                        // of experts with several replicas, one edge per replica
  std::vector<int32_t> slot_of_edge_, cursor_;
  // Of one Solve.
  std::vector<int64_t> base_;  // [num_ranks] what cannot be shared
  std::vector<double> levels_;
  double max_level_ = 0;
  double perfect_ = 0;
  std::vector<int32_t> group_speeds_;
  std::vector<Group> pending_;
};

}  // namespace evenkeel::algos
