// SPDX-License-Identifier: Apache-2.0
//
// Pause: the controller does nothing with a group by itself, because an operator wants it so.
//
// A pause is an operation that runs until it is ended, so the store keeps it and the next controller goes on with it.
//
// Threads:   none; functions over a GroupState.
#pragma once

#include <string>

#include "absl/time/time.h"

#include "controller/core/event.h"
#include "controller/core/group_state.h"
#include "controller/core/planning/planning.h"

namespace evenkeel::controller {

// The controller's own plans that are being computed end as superseded, for `why`.
void DropOwnPlans(Planning planning, const std::string& why, absl::Time now, Effects& effects);

// Nothing where the group is paused already. Own plans that are being computed are dropped. Requires: the operation's id
// is unknown.
void PauseGroup(Planning planning, const PauseRequested& request, absl::Time now, Effects& effects);

// Its operation ends as `state`; the slow loop looks at once. Nothing where the group is not paused.
void EndPause(Planning planning, OperationState state, absl::Time now, Effects& effects);

}  // namespace evenkeel::controller
