// SPDX-License-Identifier: Apache-2.0
//
// Protection: how far an expert is from losing its last replica, against what a problem asks (Problem::survive).
//
// It has levels from 0 (one live replica) to num_levels(): level l survives any min(l, survive.ranks) ranks and any
// min(l, survive.hosts) hosts, or all but the last that live where those are fewer. The highest level is all that is
// asked. An expert at one level needs at most one replica more for the next: on a host that has none of it yet.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "algos/base/ids.h"
#include "algos/placement.h"
#include "algos/problem.h"

namespace evenkeel::algos {

class Protection {
 public:
  // Requires: Validate(problem) is OK.
  explicit Protection(const Problem& problem);

  int num_levels() const { return num_levels_; }

  // Of an expert on `ranks` (repeated ones count once); -1 of none.
  int LevelOf(std::span<const int32_t> ranks) const;
  // Whether on top of `ranks` only a rank of another host brings the expert to `level`.
  bool NeedsOtherHost(std::span<const int32_t> ranks, int level) const;
  bool ShareHost(int32_t rank, int32_t other) const {
    return host_of_rank_[static_cast<size_t>(rank)] == host_of_rank_[static_cast<size_t>(other)];
  }

  // Of every expert: [num_experts]. Replicas on dead ranks do not count.
  std::vector<int> LevelsOf(const Placement& placement) const;

 private:
  struct Spread {
    int ranks = 0, hosts = 0;
  };
  Spread SpreadOf(std::span<const int32_t> ranks) const;
  Spread Needed(int level) const;

  const Shape shape_;
  const Survive survive_;
  const std::vector<int32_t> host_of_rank_;
  std::vector<bool> is_live_;  // by rank
  Spread living_;
  int num_levels_ = 0;
};

// The experts of `placement` that survive less than the problem asks; where it asks nothing, those that the loss of one
// rank more than the placement survives could take. Ascending.
std::vector<ExpertId> ExpertsAtRisk(const Problem& problem, const Placement& placement);

}  // namespace evenkeel::algos
