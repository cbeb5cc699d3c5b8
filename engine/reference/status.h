// SPDX-License-Identifier: Apache-2.0
//
// Status: what an engine counts, and the file in its run directory that tells others.
//
// Threads:   counters from any thread; WriteStatus from one.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "engine/reference/wait_witness.h"

namespace evenkeel::engine {

// Durations by powers of 2^(1/8) from 1 us: percentiles to 9 %, in memory that does not grow.
class DurationHistogram {
 public:
  void Add(absl::Duration duration);
  // In milliseconds, the upper edge of its bucket; 0 while empty.
  double PercentileMs(double fraction) const;
  double MaxMs() const { return absl::ToDoubleMilliseconds(absl::Nanoseconds(max_ns_.load())); }

 private:
  static constexpr int kBuckets = 256;
  std::array<std::atomic<uint64_t>, kBuckets> counts_ = {};
  std::atomic<int64_t> max_ns_ = 0;
};

enum class EngineState { kStarting, kOutside, kServing, kStopping, kEnded };

struct Counters {
  std::atomic<EngineState> state = EngineState::kStarting;
  std::atomic<uint64_t> steps = 0;
  std::atomic<uint64_t> tokens = 0;
  std::atomic<uint64_t> sequences = 0;
  std::atomic<uint64_t> requests = 0;  // answered, of `sequences`
  std::atomic<uint64_t> checked_tokens = 0;
  std::atomic<uint64_t> mismatched_tokens = 0;
  std::atomic<uint64_t> stale_slot_uses = 0;
  std::atomic<uint64_t> dropped_tokens = 0;   // of steps that were done: computed without some expert
  std::atomic<uint64_t> dropped_copies = 0;   // the token and expert pairs that they lack
  std::atomic<uint64_t> served_rows = 0;      // computed for other ranks
  std::atomic<uint64_t> rerouted_copies = 0;  // sent anew because their rank was lost
  std::atomic<uint64_t> refused_requests = 0;
  std::atomic<uint64_t> resent_requests = 0;
  std::atomic<uint64_t> aborted_steps = 0;
  std::atomic<uint64_t> weights_version = 0;
  std::atomic<uint64_t> reloads = 0;     // done
  std::atomic<uint64_t> suspend_ms = 0;  // that the last one waited until it was suspended
  std::atomic<bool> suspended = false;   // or about to be
  std::atomic<uint64_t> epoch = 0;
  std::atomic<int> waiting_for = -1;  // rank
  std::atomic<bool> is_member = false;
  DurationHistogram step_time;
  WaitWitness library_calls;
};

struct EngineIdentity {
  int rank = 0;
  uint64_t incarnation = 0;
  std::string url = {};  // where it takes requests; empty: nowhere
};

// Rewrites <run_dir>/engine-<rank>.json in one step. `error`: why the engine ends; empty: not for an error.
absl::Status WriteStatus(const std::string& run_dir, const EngineIdentity& identity, const Counters& counters,
                         const std::string& error);

// The error that the newest status of `rank` names; empty if none.
std::string ReadError(const std::string& run_dir, int rank);

}  // namespace evenkeel::engine
