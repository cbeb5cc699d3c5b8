// SPDX-License-Identifier: Apache-2.0
#include "runtime/clock.h"

#include <time.h>

#include "absl/time/clock.h"

namespace evenkeel::runtime {
namespace {

absl::Duration SinceBoot() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return absl::DurationFromTimespec(now);
}

}  // namespace

absl::Time MonotonicNow() {
  static const absl::Time boot = absl::Now() - SinceBoot();
  return boot + SinceBoot();
}

}  // namespace evenkeel::runtime
