// SPDX-License-Identifier: Apache-2.0
//
// Throttle: bytes per second over all transfers into a rank, whatever their transports.
//
// Each piece is followed by the time that it takes at the rate; pieces are kThrottledPiece at most, so that the rate
// holds over any span not much longer than one of them. Time lost by late threads is caught up with, up to kCatchUp.
// What has begun is owed in bytes: asked at another rate, the wait for it is that of the new one.
//
// Threads:   any.
#pragma once

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace evenkeel::agent {

class Throttle {
 public:
  static constexpr uint64_t kThrottledPiece = 64 * 1024;
  static constexpr absl::Duration kCatchUp = absl::Milliseconds(10);

  // Whether a piece may begin now; it is then counted. Always where bytes_per_second is 0: no limit; that forgets what
  // is owed.
  bool TryBegin(absl::Time now, uint64_t bytes, uint64_t bytes_per_second) ABSL_LOCKS_EXCLUDED(mutex_);

  // When the next piece may begin; the past if now.
  absl::Time NextBegin() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  mutable absl::Mutex mutex_;
  absl::Time next_begin_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  uint64_t bytes_per_second_ ABSL_GUARDED_BY(mutex_) = 0;  // that next_begin_ goes by
};

}  // namespace evenkeel::agent
