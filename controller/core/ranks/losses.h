// SPDX-License-Identifier: Apache-2.0
//
// Losses: ranks that are dead leave the group, and what only they held is restored.
//
// The evidence is judged (evidence.h). A view without the lost goes out alone and first; in the same step their slots
// leave the tables, so that the maps that the group publishes next name none of them. What was under way is overtaken:
// it was planned for ranks that are gone. Experts without a replica are restored (restores.h); then the slow loop
// plans anew over the living, or goes on with what an operator had asked for.
//
// Threads:   none; functions over a GroupState.
#pragma once

#include "absl/time/time.h"

#include "controller/core/event.h"
#include "controller/core/group_state.h"
#include "controller/core/planning/slow_loop.h"

namespace evenkeel::controller {

// Judges, and expels whom the rules say. Requires: a term is taken.
void ExpelLost(Planning planning, absl::Time now, Effects& effects);

// Chooses slots for experts that have no replica left; tells how that goes. Requires: the group has formed.
void PlanRestores(Planning planning, absl::Time now, Effects& effects);

// When ExpelLost is to look again.
absl::Time NextLook(const GroupState& group, absl::Time now);

EvidenceRules RulesOf(const GroupSettings& settings);

}  // namespace evenkeel::controller
