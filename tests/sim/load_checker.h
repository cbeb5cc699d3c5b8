// SPDX-License-Identifier: Apache-2.0
//
// LoadChecker: every token that was counted is credited to its expert once, and to no other (rule 29).
//
// For each region it knows the tokens computed of each expert, those within each reading that the agent was given,
// and those reported. After each report these must be equal to some reading's, and never an older one than before.
// What an agent has read and not reported is lost with it.
//
// Threads:   none.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "algos/protocol/messages.h"
#include "tests/sim/region_model.h"
#include "tests/sim/trace.h"

namespace evenkeel::sim {

class LoadChecker {
 public:
  explicit LoadChecker(Trace* trace) : trace_(trace) {}

  void Computed(const RegionModel& region, LayerId layer, ExpertId expert, uint64_t tokens);
  // The agent's core was given a reading taken now.
  void Read(const RegionModel& region);
  // A new agent takes the counters as they are.
  void TakenOver(const RegionModel& region);
  void Reported(const RegionModel& region, const LoadReport& report);

  uint64_t tokens_reported() const { return tokens_reported_; }

 private:
  struct Tally {
    std::vector<uint64_t> computed;  // [num_layers * num_experts]
    std::vector<uint64_t> reported;
    std::deque<std::vector<uint64_t>> readings;  // the last one matched, and those since
  };
  Tally& Of(const RegionModel& region);

  Trace* const trace_;
  std::vector<Tally> tallies_;  // by region id
  uint64_t tokens_reported_ = 0;
};

}  // namespace evenkeel::sim
