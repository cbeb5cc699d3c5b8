// SPDX-License-Identifier: Apache-2.0
//
// WeightsDriver: whoever has groups' weights replaced: all ranks at once or one after another, by the next version, by
// the one before, or by the same (sleep); now and then one slot of a rank gets content that differs from its replicas'.
//
// Threads:   none.
#pragma once

#include <cstdint>

#include "tests/sim/cluster.h"

namespace evenkeel::sim {

class WeightsDriver {
 public:
  // Acts until the calm, and sees to it that all ranks come to the version last asked for.
  explicit WeightsDriver(Cluster* cluster);

 private:
  void ActLater();
  void Act();
  void LookLater();
  // Ranks that stayed behind, or came since.
  void Look();
  void SuspendLater(int group, int rank, absl::Duration after);
  void Suspend(int group, int rank);

  Cluster* const cluster_;
  World& world_;
  uint64_t newest_ = 1;
};

}  // namespace evenkeel::sim
