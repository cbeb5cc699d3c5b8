// SPDX-License-Identifier: Apache-2.0
//
// Why the controller does nothing with a group by itself, or moves experts slowly, beside the group's mode and a pause.
//
// Threads:   none; a function over a GroupState.
#pragma once

#include <string>

#include "absl/time/time.h"

#include "controller/core/group_state.h"

namespace evenkeel::controller {

// For people; empty: it is held by nothing.
std::string WhyHeld(const GroupState& group, absl::Time now);

// As people read it.
std::string UtcText(absl::Time time);

}  // namespace evenkeel::controller
