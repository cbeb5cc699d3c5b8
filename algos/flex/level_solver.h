// SPDX-License-Identifier: Apache-2.0
//
// LevelSolver: how evenly shares can fill a layer's ranks, fast enough to be asked thousands of times.
//
// The same problem as shares.h, with ranks of unequal speed and a cost for each replica in use, and for many loads
// of one placement. A rank's level is its cost over its capacity, in units of what perfect balance would give.
// Shares bring the levels into groups: within a group all are equal, and no share can move work from a fuller
// group to an emptier one. That vector of levels is best at once for the maximum, for the sum of squares and for
// every other measure that likes even loads. It is found by dividing, as shares.cc describes.
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
  int32_t group(int32_t rank) const { return group_of_rank_[static_cast<size_t>(rank)]; }
  int32_t group_speed(int32_t rank) const { return group_speeds_[static_cast<size_t>(group(rank))]; }
  double max_level() const { return max_level_; }

  // Tokens of each slot, [num_slots]; left as they are for experts with one replica.
  void CopyFlows(std::span<int64_t> flows) const;
  // Parallel to Replicas::slots of the placement wired.
  Shares SharesOf() const;

 private:
  struct Spread {
    int32_t expert = 0, first_edge = 0, end_edge = 0;  // one edge per replica, ranks ascending
    int64_t tokens = 0;
    int64_t excess = 0;  // what no edge carries yet
  };
  struct Edge {
    int32_t spread = 0, rank = 0, slot = 0;
    int64_t flow = 0;
  };
  struct Group {
    int32_t first_rank = 0, end_rank = 0, first_spread = 0, end_spread = 0, id = 0;
  };

  struct Totals {
    int64_t cost = 0, speed = 0;
  };

  void Load(std::span<const int64_t> tokens, int64_t replica_cost, std::span<const int64_t> start);
  Totals TotalsOf(const Group& group) const;
  bool Fill(const Group& group, int64_t cost, int64_t speed);
  bool Augment(int32_t spread, int32_t group);
  Group SplitOffStuck(Group& group);
  void Settle(const Group& group, double level, int64_t speed);

  const std::vector<int32_t> speeds_;
  // Of the placement wired.
  std::vector<int32_t> sole_rank_;        // by expert; -1: none, -2: several
  std::vector<int32_t> offsets_, slots_;  // by expert, as Replicas has them
  std::vector<Spread> spreads_;
  std::vector<Edge> edges_;
  std::vector<int32_t> edges_of_rank_, first_of_rank_;
  // Of one Solve.
  std::vector<int64_t> base_, room_;
  std::vector<double> levels_;
  double max_level_ = 0;
  double perfect_ = 0;
  std::vector<int32_t> group_of_rank_, group_of_spread_, group_speeds_;
  std::vector<int32_t> order_ranks_, order_spreads_;
  std::vector<uint8_t> rank_stuck_, spread_stuck_;
  std::vector<int32_t> rank_via_, spread_via_, queue_, cursor_;
  std::vector<uint32_t> rank_seen_, spread_seen_;
  std::vector<Group> pending_;
  uint32_t search_ = 0;
};

}  // namespace evenkeel::algos
