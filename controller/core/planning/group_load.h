// SPDX-License-Identifier: Apache-2.0
//
// What a group's load says of its maps, and whether it suffices.
//
// Threads:   none. Functions over GroupState.
#pragma once

#include <cstdint>
#include <span>

#include "algos/base/ids.h"
#include "algos/layer_map.h"
#include "controller/core/event.h"
#include "controller/core/group_state.h"
#include "controller/core/planning/fast_loop.h"
#include "controller/core/rollout/rollout.h"

namespace evenkeel::controller {

// Compares the newest window with what the maps in force promise of it; a lasting gap is an alert (rule 31).
void WatchGap(GroupState& group, Effects& effects);

// Some layer's tokens, over the windows that placements are planned on, are more than noise.
bool HasEnoughToPlan(const GroupState& group);

// Recent tokens per slot under the maps in force. Valid until the group changes.
Rollouts::SlotLoads SlotLoadsNow(const GroupState& group);

}  // namespace evenkeel::controller
