// SPDX-License-Identifier: Apache-2.0
//
// RankRequests: what operators ask of ranks: to be taken in, to be drained, to let one of these be.
//
// Threads:   none; functions over a GroupState.
// Errors:    what cannot be done becomes an operation that failed, with the reason.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "controller/core/event.h"
#include "controller/core/group_state.h"
#include "controller/core/planning/slow_loop.h"

namespace evenkeel::controller {

// kInvalidArgument: no ranks, or beyond those that the group may have. kFailedPrecondition: they do not stand so that
// it could be done; maps never change; of a drain, also where the ranks left would have no room for every expert. Ranks
// that are all silent may be drained whatever is left: they are given up (docs/membership.md).
absl::Status CheckAdmit(const GroupState& group, const AdmitRequested& request);
absl::Status CheckDrain(const GroupState& group, const DrainRequested& request);

// Requires: the operation's id is unknown.
void Admit(Planning planning, const AdmitRequested& request, absl::Time now, Effects& effects);
void Drain(Planning planning, const DrainRequested& request, absl::Time now, Effects& effects);

// Ranks that have not come are not waited for any longer; those that have not left serve on. Nothing where the
// operation is of another kind.
void CancelRankChange(Planning planning, const std::string& operation_id, absl::Time now, Effects& effects);

// Operations that a controller before left unfinished go on, under their ids, oldest first. `left`: ranks that were
// drained before. Requires: the group has just formed.
void ResumeRankChanges(GroupState& group, const std::vector<OperationProgress>& operations,
                       const std::vector<RankId>& left, absl::Time now);

}  // namespace evenkeel::controller
