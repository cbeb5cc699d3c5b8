// SPDX-License-Identifier: Apache-2.0
//
// What a group's guard sees, and what is done about it: the pace of rollouts, and changes that slowed the engines down
// undone.
//
// Threads:   none; functions over a GroupState.
#pragma once

#include "absl/time/time.h"

#include "controller/core/event.h"
#include "controller/core/group_state.h"
#include "controller/core/planning/planning.h"
#include "controller/core/rollout/publisher.h"

namespace evenkeel::controller {

// `message` is newer than what `member` has.
void NoteEngineSteps(GroupState& group, const MemberRecord& member, const EngineStatus& message);

// A load report was taken.
void NoteEngineTokens(GroupState& group);

// Maps are about to change; `moved`: other experts than before are in some. Keeps what there is now, where a trial begins.
void NoteMapChange(GroupState& group, bool moved, absl::Time now);

// Sets the pace of rollouts. A change found to slow the engines down is undone: an operation by a rollback that begins
// here, shares by the maps returned, which are to be published.
Publisher::LayerMaps AdvanceGuard(Planning planning, absl::Time now, Effects& effects);

// InfiniteFuture: the guard is off.
absl::Time NextGuardLook(const GroupState& group);

}  // namespace evenkeel::controller
