// SPDX-License-Identifier: Apache-2.0
//
// What the rollouts of a group did, booked: its operations, totals and alerts.
//
// Threads:   none. Functions over GroupState.
#pragma once

#include "absl/time/time.h"

#include "controller/core/event.h"
#include "controller/core/group_state.h"
#include "controller/core/operations.h"

namespace evenkeel::controller {

// Books what is new since the last call; an operation whose layers have all ended is concluded.
void BookRollouts(GroupState& group, Operations& operations, absl::Time now, Effects& effects);

}  // namespace evenkeel::controller
