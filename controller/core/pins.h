// SPDX-License-Identifier: Apache-2.0
//
// Pins: operators fix experts on ranks, or the maps of whole layers.
//
// What is fixed is an operation that runs until it is ended, so the store keeps it and the next controller goes on with
// it. Plans obey it (planning/pins_in_force.h); in mode full the next one is made at once.
//
// Threads:   none; functions over a GroupState.
// Errors:    CheckPin answers kInvalidArgument naming layer, expert or rank that the group has not, or that has no room.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "controller/core/event.h"
#include "controller/core/group_state.h"
#include "controller/core/planning/planning.h"

namespace evenkeel::controller {

absl::Status CheckPin(const GroupState& group, const PinRequested& request);

// Requires: the operation's id is unknown. Where CheckPin refuses, the operation fails.
void PinGroup(Planning planning, const PinRequested& request, absl::Time now, Effects& effects);

// Its operation ends as `state`. Nothing where no pins are of this operation.
void EndPins(Planning planning, const std::string& operation_id, OperationState state, absl::Time now,
             Effects& effects);

// Of a group that takes the place of another: those that fit it.
void KeepPinsThatFit(GroupState& group, std::vector<StandingPins> pins);

}  // namespace evenkeel::controller
