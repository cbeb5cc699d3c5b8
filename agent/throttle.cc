// SPDX-License-Identifier: Apache-2.0
#include "agent/throttle.h"

#include <algorithm>

namespace evenkeel::agent {

bool Throttle::TryBegin(absl::Time now, uint64_t bytes, uint64_t bytes_per_second) {
  if (bytes_per_second == 0) return true;
  const absl::Duration taken = absl::Seconds(static_cast<double>(bytes) / static_cast<double>(bytes_per_second));
  absl::MutexLock lock(&mutex_);
  if (next_begin_ > now) return false;
  next_begin_ = std::max(next_begin_, now - kCatchUp) + taken;
  return true;
}

absl::Time Throttle::NextBegin() const {
  absl::MutexLock lock(&mutex_);
  return next_begin_;
}

}  // namespace evenkeel::agent
