// SPDX-License-Identifier: Apache-2.0
//
// RankDriver: an operator who lets ranks come and go: admits new ones, drains some, terminates those that are safe to be.
//
// At most one rank is drained at a time, and only where the others have room. Until the first fault has ended it is
// at work; in the calm after it, it drains and admits no more but sees what is under way to its end.
//
// Checks:    once a rank is safe to terminate, no map in use names a slot of it.
// Threads:   none.
#pragma once

#include <string>

#include "absl/container/btree_map.h"

#include "tests/sim/cluster.h"

namespace evenkeel::sim {

class RankDriver {
 public:
  // Options::ranks_interval zero: it does nothing.
  explicit RankDriver(Cluster* cluster);

  uint64_t num_drained() const { return num_drained_; }
  uint64_t num_joined() const { return num_joined_; }

 private:
  void ActLater();
  void Act();
  void LookLater();
  void Look();
  void CutOffMaybe(int group, int rank);

  Cluster* const cluster_;
  World& world_;
  uint64_t num_asked_ = 0;
  uint64_t num_drained_ = 0;
  uint64_t num_joined_ = 0;
};

}  // namespace evenkeel::sim
