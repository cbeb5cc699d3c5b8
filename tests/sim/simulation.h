// SPDX-License-Identifier: Apache-2.0
//
// Simulation: one run: a time with faults, then calm, in which the group must come to rest; and its outcome.
//
// Coming to rest: every whole group has a rearrangement that was ordered after the last fault behind it, all ranks
// have quiesced at the newest epoch, no wave is under way, nothing is left retired or half written, and what the
// controller believes of every slot is what the slot holds, and all ranks have the weights that were last asked for. With losses also: every engine that lives serves, no view has
// one that does not, and no expert is dead of which a source survives that could be read into some slot.
//
// Threads:   none.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "tests/sim/cluster.h"
#include "tests/sim/faults.h"
#include "tests/sim/options.h"
#include "tests/sim/rank_driver.h"
#include "tests/sim/weights_driver.h"

namespace evenkeel::sim {

struct Outcome {
  bool ok = false;
  std::string violation;                // empty where ok
  std::vector<std::string> last_lines;  // of the trace
  uint64_t digest = 0;
  uint64_t num_events = 0;
  uint64_t num_faults = 0;
  uint64_t num_ended = 0;        // engines that were ended or hung
  uint64_t num_left_out = 0;     // members that views left out
  uint64_t num_silent = 0;       // of these, by witnesses
  uint64_t num_from_stores = 0;  // copies
  uint64_t num_reloads = 0;      // of all the weights of a rank
  uint64_t num_steps = 0;
  uint64_t num_tokens = 0;
  uint64_t num_epochs = 0;
  uint64_t num_copies = 0;
  uint64_t num_good_copies = 0;
  uint64_t tokens_reported = 0;
  int most_copies_out_of_a_slot = 0;
  absl::Duration rest_after;  // from the last fault to rest

  std::string ToString() const;
};

class Simulation {
 public:
  explicit Simulation(const Options& options);

  Outcome Run();

 private:
  void RearrangeLater();
  // Runs until `end`; false when a violation ended it.
  bool RunUntil(absl::Time end);
  void OrderFinalRearrangements();
  // Empty when all whole groups are at rest; otherwise what is not.
  std::string NotAtRest();
  std::string NotAtRest(int group, const controller::Coordinator& coordinator);
  // Of runs with losses: engines that live and do not serve; experts that are dead and need not be.
  std::string LossesNotMended(int group, const controller::Coordinator& coordinator);
  std::string SlotsDiffer(int group, const controller::Coordinator& coordinator);

  const Options options_;
  Cluster cluster_;
  World& world_;
  FaultInjector faults_;
  RankDriver ranks_;
  WeightsDriver weights_;
  int num_requests_ = 0;
  std::vector<std::string> final_operations_;  // by group; empty until ordered
};

// Runs these options; on a violation prints seed, last lines and the command that runs it again.
Outcome RunAndReport(const Options& options);
// The options as flags of //tests/sim:simulate.
std::string CommandFor(const Options& options);

}  // namespace evenkeel::sim
