// SPDX-License-Identifier: Apache-2.0
//
// LayerShares: the shares of a group's layers by the load there was, or, where a Flex follows the group, by the load
// that it expects.
//
// Threads:   none; functions over a GroupState.
#pragma once

#include <span>

#include "algos/base/ids.h"
#include "controller/core/group_state.h"
#include "controller/core/planning/fast_loop.h"
#include "controller/core/rollout/publisher.h"

namespace evenkeel::controller {

// Tells the group's Flex of the `num_closed` windows that closed last, oldest first; those without load are left out.
void ObserveWindows(GroupState& group, int num_closed);

// Of layers whose live slots stay, where shares solved anew are better by shares_min_gain. Books what it predicts.
Publisher::LayerMaps ImprovedShares(GroupState& group);
// The same, noted (GroupState::shadow_shares) instead of done.
void LookAtShares(GroupState& group);

// Of layers whose live slots changed. Likewise.
Publisher::LayerMaps FirstShares(GroupState& group, std::span<const LayerId> layers);

}  // namespace evenkeel::controller
