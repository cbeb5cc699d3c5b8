// SPDX-License-Identifier: Apache-2.0
//
// GroupTotals: what was counted of a group since this controller knows it.
//
// Plain values.
#pragma once

#include <cstdint>

#include "absl/time/time.h"

#include "controller/core/latency_counts.h"

namespace evenkeel::controller {

struct GroupTotals {
  uint64_t tokens = 0;
  uint64_t unrouted_tokens = 0;
  uint64_t load_reports = 0;
  uint64_t shares_updates = 0;   // publishes of the fast loop
  uint64_t shares_shadowed = 0;  // that it would have made, in mode shadow
  uint64_t publishes = 0;        // epochs
  uint64_t maps_refused = 0;
  uint64_t rollouts = 0;  // of a layer, finished
  uint64_t waves = 0;     // begun
  uint64_t waves_undone = 0;
  uint64_t moves = 0;  // verified
  uint64_t moves_failed = 0;
  uint64_t bytes_moved = 0;
  uint64_t fingerprint_failures = 0;
  uint64_t ranks_lost = 0;        // expelled
  uint64_t experts_restored = 0;  // that had no live replica left
  uint64_t guard_undone = 0;      // changes that made steps slower
  // Of the controller's own plans: layers that were planned, and those left out, by the reason.
  uint64_t layers_planned = 0;
  uint64_t layers_balanced = 0;  // below layer_imbalance_min
  uint64_t layers_steady = 0;    // below min_fluctuation
  uint64_t layers_resting = 0;   // within layer_rest_windows
  uint64_t layers_over_budget = 0;
  uint64_t layers_without_gain = 0;  // planned, but not worth it
  // Summed over plans, and over waves, which run side by side in several layers.
  absl::Duration planning = absl::ZeroDuration();
  absl::Duration retiring = absl::ZeroDuration();
  absl::Duration moving = absl::ZeroDuration();
  LatencyCounts shares_latency;  // from the end of the newest window to the publish of shares solved with it
};

}  // namespace evenkeel::controller
