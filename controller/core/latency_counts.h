// SPDX-License-Identifier: Apache-2.0
//
// LatencyCounts: how many of something took how long, by fixed bounds, as Prometheus's histograms want it.
//
// Threads:   none; a plain value.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace evenkeel::controller {

struct LatencyCounts {
  static constexpr std::array<int64_t, 10> kBoundsUs = {100,     1'000,   10'000,  25'000,    50'000,
                                                        100'000, 250'000, 500'000, 1'000'000, 2'500'000};

  std::array<uint64_t, kBoundsUs.size() + 1> counts = {};  // by the first bound not below; the last: above all
  absl::Duration sum = absl::ZeroDuration();

  void Add(absl::Duration latency) {
    size_t i = 0;
    while (i < kBoundsUs.size() && latency > absl::Microseconds(kBoundsUs[i])) ++i;
    ++counts[i];
    sum += latency;
  }
};

}  // namespace evenkeel::controller
