// SPDX-License-Identifier: Apache-2.0
//
// FaultInjector: draws faults of the kinds a run has, at the rate it has, until it is told to stop.
//
// Threads:   none.
#pragma once

#include <cstdint>

#include "tests/sim/cluster.h"

namespace evenkeel::sim {

class FaultInjector {
 public:
  explicit FaultInjector(Cluster* cluster);

  void Stop() { stopped_ = true; }
  uint64_t num_injected() const { return num_injected_; }

 private:
  static constexpr int kEnginesLostMax = 2;

  void InjectLater();
  void Inject();
  void Stall(int kind, int group, int rank);

  Cluster* const cluster_;
  World& world_;
  bool stopped_ = false;
  int num_engines_lost_ = 0;
  uint64_t num_injected_ = 0;
};

}  // namespace evenkeel::sim
