// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/step_window.h"

#include <algorithm>
#include <bit>

namespace evenkeel::controller {

int StepWindow::BucketOf(absl::Duration time) {
  constexpr uint64_t kTop = (uint64_t{1} << 40) - 1;
  const auto ns =
      std::clamp<uint64_t>(static_cast<uint64_t>(std::max<int64_t>(absl::ToInt64Nanoseconds(time), 0)), 0, kTop);
  const int shift = std::max(static_cast<int>(std::bit_width(ns)) - (kSubBits + 1), 0);
  // Up to 2^(kSubBits + 1) each nanosecond has its own; above, each octave has 2^kSubBits.
  return (shift << kSubBits) + static_cast<int>(ns >> shift);
}

absl::Duration StepWindow::TimeOf(int bucket) {
  const int shift = std::max((bucket >> kSubBits) - 1, 0);
  const int64_t low = bucket - (shift << kSubBits);
  return absl::Nanoseconds(((low + 1) << shift) - 1);
}

StepWindow::Slice& StepWindow::SliceAt(absl::Time now) {
  const int64_t number = absl::ToUnixNanos(now) / absl::ToInt64Nanoseconds(slice_length_);
  Slice& slice = slices_[static_cast<size_t>(number % kSlices)];
  if (slice.number != number) {
    slice.number = number;
    slice.num_tokens = 0;
    std::ranges::fill(slice.counts, 0);
  }
  return slice;
}

void StepWindow::AddSteps(absl::Time now, absl::Duration mean_step_time, int64_t num_steps) {
  if (mean_step_time <= absl::ZeroDuration() || num_steps <= 0) return;
  Slice& slice = SliceAt(now);
  slice.counts.resize(kBuckets);
  slice.counts[static_cast<size_t>(BucketOf(mean_step_time))] += num_steps;
}

void StepWindow::AddTokens(absl::Time now, uint64_t num_tokens) { SliceAt(now).num_tokens += num_tokens; }

StepWindow::Look StepWindow::At(absl::Time now) {
  const int64_t newest = SliceAt(now).number;
  std::vector<int64_t> counts(kBuckets);
  Look look;
  uint64_t num_tokens = 0;
  for (const Slice& slice : slices_) {
    if (slice.number < 0 || slice.number <= newest - kSlices) continue;
    num_tokens += slice.num_tokens;
    for (size_t b = 0; b < slice.counts.size(); ++b) counts[b] += slice.counts[b];
  }
  for (int64_t count : counts) look.num_steps += count;
  if (look.num_steps == 0) return look;
  look.tokens_per_step = static_cast<double>(num_tokens) / static_cast<double>(look.num_steps);
  const int64_t half = (look.num_steps + 1) / 2;
  const int64_t most = (look.num_steps * 99 + 99) / 100;
  int64_t seen = 0;
  for (int b = 0; b < kBuckets && seen < most; ++b) {
    const int64_t before = seen;
    seen += counts[static_cast<size_t>(b)];
    if (before < half && seen >= half) look.p50 = TimeOf(b);
    if (before < most && seen >= most) look.p99 = TimeOf(b);
  }
  return look;
}

}  // namespace evenkeel::controller
