// SPDX-License-Identifier: Apache-2.0
#include "controller/core/rollout/step_times.h"

#include <algorithm>

namespace evenkeel::controller {

void StepTimes::Add(absl::Duration mean_step_time) {
  if (mean_step_time <= absl::ZeroDuration()) return;
  if (samples_.size() < kKept) {
    samples_.push_back(mean_step_time);
    return;
  }
  samples_[next_] = mean_step_time;
  next_ = (next_ + 1) % kKept;
}

absl::Duration StepTimes::P99() const {
  if (samples_.empty()) return absl::ZeroDuration();
  std::vector<absl::Duration> sorted = samples_;
  const size_t at = (sorted.size() * 99 + 99) / 100 - 1;
  std::ranges::nth_element(sorted, sorted.begin() + static_cast<std::ptrdiff_t>(at));
  return sorted[at];
}

}  // namespace evenkeel::controller
