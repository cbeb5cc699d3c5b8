// SPDX-License-Identifier: Apache-2.0
//
// StepWindow: how long the steps of a group's engines took over the last while, and how many tokens each held.
//
// Agents report the mean of the steps of one report interval; each counts as often as it had steps. Quantiles are those of
// these means, exact to 3 %: a single slow step shows as far as it moves the mean of its interval.
//
// Threads:   none. Owned by Guard.
// Limits:    kSlices parts of kBuckets counters each; times above 18 minutes count as that.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace evenkeel::controller {

class StepWindow {
 public:
  static constexpr int kSlices = 10;

  // Requires: `length` is positive.
  explicit StepWindow(absl::Duration length) : slice_length_(length / kSlices) {}

  struct Look {
    int64_t num_steps = 0;       // of all ranks together
    absl::Duration p50, p99;     // zero where there were no steps
    double tokens_per_step = 0;  // routed copies per step of a rank
  };

  // `num_steps` of one rank took `mean_step_time` each. Requires: `now` never goes back.
  void AddSteps(absl::Time now, absl::Duration mean_step_time, int64_t num_steps);
  void AddTokens(absl::Time now, uint64_t num_tokens);
  // Of what was added within the window before `now`, to the slice.
  Look At(absl::Time now);

 private:
  static constexpr int kSubBits = 5;
  static constexpr int kBuckets = (40 - kSubBits + 1) << kSubBits;

  struct Slice {
    int64_t number = -1;  // of time since the epoch in slices
    uint64_t num_tokens = 0;
    std::vector<int64_t> counts;  // [kBuckets], empty: none
  };
  static int BucketOf(absl::Duration time);
  static absl::Duration TimeOf(int bucket);  // the largest that is in it
  Slice& SliceAt(absl::Time now);

  const absl::Duration slice_length_;
  std::array<Slice, kSlices> slices_;
};

}  // namespace evenkeel::controller
