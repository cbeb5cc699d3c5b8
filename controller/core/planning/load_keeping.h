// SPDX-License-Identifier: Apache-2.0
//
// Load keeping: what a group has counted goes to the store every kWindowsAtOnce windows, and from there to a successor,
// which then plans as if it had counted itself.
//
// Threads:   none. Functions of the group's strand.
#pragma once

#include <span>

#include "absl/time/time.h"

#include "controller/core/event.h"
#include "controller/core/planning/load_history.h"

namespace evenkeel::controller {

struct GroupState;

constexpr int kWindowsAtOnce = 10;

// After `num_closed` windows were closed.
void KeepLoads(GroupState& group, int num_closed, Effects& effects);

// Takes the group's windows out of `stored`, oldest first: those of its model and shape that are no older than what it
// would hold now had it counted them itself. Requires: it has counted nothing yet.
void RestoreLoads(GroupState& group, std::span<const LoadHistory> stored, absl::Time now);

}  // namespace evenkeel::controller
