// SPDX-License-Identifier: Apache-2.0
//
// OperationProgress: one thing that the controller does or did: everything it does has one (design, section 7).
//
// Plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/problem.h"
#include "controller/core/mode.h"
#include "controller/core/planning/decision.h"

namespace evenkeel::controller {

enum class Cause : uint32_t {
  kOperator = 0,
  kSlowLoop = 1,
  kEmergency = 2,
  kTakeover = 3,
  kAdmit = 4,
  kDrain = 5,
  // These run until an operator ends them:
  kPause = 6,  // the group is paused
  kMode = 7,   // it has another mode than the configured one
  kPin = 8,    // experts or layers are fixed

  kGuard = 9,  // what made steps slower is undone
};

// Whether operations of this cause stand until they are ended, beyond this controller too.
constexpr bool Stands(Cause cause) { return cause == Cause::kPause || cause == Cause::kMode || cause == Cause::kPin; }

enum class OperationState : uint32_t {
  kPlanning = 0,
  kRunning = 1,
  kDone = 2,
  kFailed = 3,
  kSkipped = 4,     // decided not to act; `detail` says why
  kSuperseded = 5,  // re-planned by a later one
  kCancelled = 6,   // by an operator; what was moved by then stays
};

struct OperationProgress {
  std::string id;  // request id where an operator gave one
  std::string group;
  Cause cause = Cause::kOperator;
  OperationState state = OperationState::kPlanning;
  std::string policy;
  std::vector<LayerId> layers;                  // that alone may change, ascending; empty: all
  bool for_operator = false;                    // asked for, also where another controller goes on with it
  bool cancel_requested = false;                // ends as soon as the waves at hand have
  bool dry_run = false;                         // changes nothing
  std::vector<RankId> ranks = {};               // that join or leave, ascending; of kAdmit and kDrain alone
  absl::Duration grace = absl::ZeroDuration();  // of kDrain
  std::string detail;                           // one sentence for people
  absl::Time started;
  absl::Time changed;
  int num_layers = 0;  // that it rearranges
  int num_layers_done = 0;
  int num_waves = 0;  // begun
  int num_moves = 0;  // planned, over all layers; grows when moves are retried from scratch
  int num_moves_done = 0;
  int num_moves_failed = 0;  // attempts that failed; each is retried or given up
  int num_corrupt = 0;       // of these, fingerprint mismatches
  uint64_t bytes_done = 0;
  double imbalance_before = 0;     // mean over its layers, predicted on the load it was planned on
  double imbalance_predicted = 0;  // the same after it
  LayerDecisions decisions = {};   // of each of its layers, once planned; null: not yet, or kept no longer
  std::string phase = {};          // "prefill" or "decode" where that phase's policy planned, on its tokens alone
  // Summed over its waves, which run side by side in several layers.
  absl::Duration planning = absl::ZeroDuration();
  absl::Duration retiring = absl::ZeroDuration();  // from a wave's beginning to its first move
  absl::Duration moving = absl::ZeroDuration();    // and from there to its end

  // Who asked for it, by what call, and who ended it before its end; empty: nobody, or not known.
  std::string requested_by = {};
  std::string request = {};
  std::string ended_by = {};
  std::optional<Mode> mode = {};      // of kMode
  std::vector<algos::Pin> pins = {};  // of kPin
  std::vector<LayerId> frozen = {};   // of kPin, ascending

  friend bool operator==(const OperationProgress&, const OperationProgress&) = default;
};

}  // namespace evenkeel::controller
