// SPDX-License-Identifier: Apache-2.0
//
// SetMode: an operator has the controller do more or less by itself than is configured.
//
// A mode that is not the configured one is an operation that runs until another mode is set, so the store keeps it and
// the next controller goes on with it.
//
// Threads:   none; functions over a GroupState.
#pragma once

#include "absl/time/time.h"

#include "controller/core/event.h"
#include "controller/core/group_state.h"
#include "controller/core/planning/planning.h"

namespace evenkeel::controller {

// Own plans that are being computed are dropped where the mode decides nothing of placements. Requires: the operation's id
// is unknown.
void SetMode(Planning planning, const SetModeRequested& request, absl::Time now, Effects& effects);

// The configured mode again; the operation that set another ends as `state`. Nothing where none did.
void UnsetMode(Planning planning, OperationState state, absl::Time now, Effects& effects);

}  // namespace evenkeel::controller
