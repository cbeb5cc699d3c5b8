// SPDX-License-Identifier: Apache-2.0
//
// Survival: how many ranks and hosts a group may lose at once as it is placed, against what it is configured to survive.
//
// Threads:   none; functions over a GroupState.
// Order:     layers and experts ascending.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/layer_map.h"
#include "algos/placement.h"
#include "algos/problem.h"
#include "algos/survivability.h"
#include "controller/core/event.h"
#include "controller/core/group_state.h"
#include "controller/core/status.h"

namespace evenkeel::controller {

// [num_ranks] equal for ranks whose agents name the same host; of ranks that name none those of a node are one.
std::vector<int32_t> HostsOf(const GroupState& group);

// As published; the default placement before.
algos::LayerMap MapInForce(const GroupState& group, LayerId layer);

// Of one layer by `map`, its live replicas and usable slots.
algos::Survivability SurvivalOf(const GroupState& group, LayerId layer, const algos::LayerMap& map);

// Whether slots are there to protect an expert of the layer more, and none less, than `problem.current` does.
bool OwesProtection(const algos::Problem& problem, LayerId layer);
// Any layer, as it is placed now.
bool OwesProtection(const GroupState& group);

// How many experts `target` protects more than `problem.current`; 0 where it protects any less.
int NumProtectedMore(const algos::Problem& problem, LayerId layer, const algos::Placement& target);

// What `report` says of losses, and which experts are at risk: those less protected than asked, or where nothing is
// asked those that the next lost rank could take.
void ReportSurvival(const GroupState& group, RedundancyReport& report);

// Once the group is formed: a note of what it is to survive, or an alert where that is out of reach. Where replicas must
// move for it, a plan is due soon.
void AnnounceSurvival(GroupState& group, absl::Time now, Effects& effects);

}  // namespace evenkeel::controller
