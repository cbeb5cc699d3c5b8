// SPDX-License-Identifier: Apache-2.0
//
// PlanCheck: whether a plan that came back is one that may be followed.
#pragma once

#include "absl/status/status.h"

#include "algos/problem.h"
#include "controller/core/event.h"
#include "controller/core/group_state.h"

namespace evenkeel::controller {

// Not OK: what is wrong with the plan that was made of `problem`.
absl::Status CheckPlan(const GroupState& group, const algos::Problem& problem, const PlanComputed& plan);

}  // namespace evenkeel::controller
