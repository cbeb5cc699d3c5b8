// SPDX-License-Identifier: Apache-2.0
//
// SlowLoop: when placements are planned, what comes of a plan, and the operations that tell of it.
//
// A plan is computed off the strand from the state of now; when it comes back it is dropped if its operation was
// overtaken. An operator's rearrangement takes the place of the controller's own, and is refused while another
// operator's runs.
//
// Threads:   none; functions over a GroupState.
// Errors:    what cannot be done becomes an operation that failed or was skipped, with the reason.
#pragma once

#include <string>

#include "absl/time/time.h"

#include "controller/core/event.h"
#include "controller/core/group_state.h"
#include "controller/core/operations.h"
#include "controller/core/planning/planning.h"

namespace evenkeel::controller {

// An operator asks. Requires: the operation's id is unknown.
void Rearrange(Planning planning, const RearrangeRequested& request, absl::Time now, Effects& effects);

// Ends an operation of the group: at once while it is planned, else once the waves at hand have ended.
void Cancel(Planning planning, const std::string& operation_id, absl::Time now, Effects& effects);

// An id for an operation of the controller's own.
std::string OwnId(Planning planning);

// Whether an operator's rearrangement runs or is planned, other than dry runs.
bool OperatorRearranges(const GroupState& group);

// Plans for the ranks that serve now, as the step of `change`'s operation that moves experts; what else runs or is
// planned is overtaken.
void PlanForRanks(Planning planning, const RankChange& change, absl::Time now, Effects& effects);

// Begins a plan of the controller's own where one is due. `windows_closed`: load is new.
void PlanIfDue(Planning planning, absl::Time now, Effects& effects);

}  // namespace evenkeel::controller
