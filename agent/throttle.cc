// SPDX-License-Identifier: Apache-2.0
#include "agent/throttle.h"

#include <algorithm>
#include <utility>

namespace evenkeel::agent {

bool Throttle::TryBegin(absl::Time now, uint64_t bytes, uint64_t bytes_per_second) {
  absl::MutexLock lock(&mutex_);
  const uint64_t rate_before = std::exchange(bytes_per_second_, bytes_per_second);
  if (bytes_per_second == 0) {
    next_begin_ = std::min(next_begin_, now);
    return true;
  }
  const double rate = static_cast<double>(bytes_per_second);
  if (rate_before != bytes_per_second && next_begin_ > now) {
    next_begin_ = now + (next_begin_ - now) * (static_cast<double>(rate_before) / rate);
  }
  if (next_begin_ > now) return false;
  const absl::Duration taken = absl::Seconds(static_cast<double>(bytes) / rate);
  next_begin_ = std::max(next_begin_, now - kCatchUp) + taken;
  return true;
}

absl::Time Throttle::NextBegin() const {
  absl::MutexLock lock(&mutex_);
  return next_begin_;
}

}  // namespace evenkeel::agent
