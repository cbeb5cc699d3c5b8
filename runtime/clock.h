// SPDX-License-Identifier: Apache-2.0
//
// MonotonicNow: the time that the shells give to the cores. It never goes back.
//
// It begins as the wall clock at the first call and then follows CLOCK_MONOTONIC, so a wall clock that jumps
// neither expires leases nor stalls timers; over a long life it may differ from the wall clock.
//
// Threads:   any.
#pragma once

#include "absl/time/time.h"

namespace evenkeel::runtime {

absl::Time MonotonicNow();

}  // namespace evenkeel::runtime
