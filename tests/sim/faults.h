// SPDX-License-Identifier: Apache-2.0
//
// FaultInjector: draws faults of the kinds a run has, at the rate it has, until it is told to stop.
//
// Threads:   none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/sim/cluster.h"

namespace evenkeel::sim {

class FaultInjector {
 public:
  explicit FaultInjector(Cluster* cluster);

  void Stop() { stopped_ = true; }
  uint64_t num_injected() const { return num_injected_; }
  uint64_t num_lost() const { return num_lost_; }  // engines that it ended or hung

 private:
  static constexpr int kEnginesLostMax = 2;

  void InjectLater();
  void Inject();
  void Stall(int kind, int group, int rank);
  void InjectLoss(size_t kind, int group);
  // One or more at once, sometimes once more soon after.
  void LoseEngines(int group, bool again);
  // The same as soon as weights are copied in the group.
  void LoseWhileCopying(int group, int tries);
  void LoseHost(int group);
  void BlameHealthy(int group);
  std::vector<int> RanksToStay(int group);
  int DrawFrom(const std::vector<int>& ranks);

  Cluster* const cluster_;
  World& world_;
  bool stopped_ = false;
  int num_engines_lost_ = 0;
  uint64_t num_injected_ = 0;
  uint64_t num_lost_ = 0;
};

}  // namespace evenkeel::sim
