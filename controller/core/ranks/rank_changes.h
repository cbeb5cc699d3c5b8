// SPDX-License-Identifier: Apache-2.0
//
// RankChanges: carries ranks into a group and out of it.
//
// Joining (rule 14): a rank whose engine waits and that is wanted comes into the view; its own agent is told only once
// all others have quiesced there, so that nobody is sent tokens by a member that it does not know. Told, it is sent the
// maps. When it has quiesced at them, and all others at its view, it serves: from then on plans use its slots, and the
// operation has them filled.
//
// Leaving: a draining rank is dead to plans, so the operation's rollouts move its experts away. Once no map names its
// slots, all have quiesced there, and its engine is idle or had its grace, a view leaves it out. It has left when all
// others have quiesced at that.
//
// What is left to do is seen from standings, slots and views each time anew, so losses and takeovers only change it.
//
// Threads:   none; functions over a GroupState.
#pragma once

#include "absl/time/time.h"

#include "controller/core/event.h"
#include "controller/core/group_state.h"
#include "controller/core/planning/slow_loop.h"
#include "controller/core/ranks/rank_status.h"

namespace evenkeel::controller {

// Takes every step that can be taken now. Requires: the group has formed, and its slots are not dirty.
void AdvanceRanks(Planning planning, absl::Time now, Effects& effects);

MembershipStatus ReportMembership(const GroupState& group, absl::Time now);

}  // namespace evenkeel::controller
