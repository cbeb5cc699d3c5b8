// SPDX-License-Identifier: Apache-2.0
//
// Targets: what a planned placement becomes where slots cannot be used as the plan assumes.
//
// Threads:   none; pure functions.
#pragma once

#include "absl/status/status.h"

#include "algos/base/ids.h"
#include "algos/placement.h"
#include "controller/core/rollout/slot_table.h"

namespace evenkeel::controller {

// `target` with no more experts on a rank than it has slots that are not condemned: replicas of the most replicated
// experts go first (ties: lowest expert); a sole replica takes the place of such a replica on another rank. Which slot
// of its rank an expert is in means nothing. Unchanged where there is nothing to give up.
algos::Placement WithoutCondemned(algos::Placement target, LayerId layer, const SlotTable& slots);

// `target` without experts that nobody could be given: those without a live replica, now and in `current`. They come
// back by a restore, or with a rank that holds them.
algos::Placement WithoutDead(algos::Placement target, const algos::Placement& current, LayerId layer,
                             const SlotTable& slots);

// Refuses targets that give an expert whose replicas disagreed (rule 23) to a rank that does not hold it.
absl::Status CheckConflicts(const algos::Placement& target, LayerId layer, const SlotTable& slots);

}  // namespace evenkeel::controller
