// SPDX-License-Identifier: Apache-2.0
//
// PlanOutcome: what becomes of a plan that was computed: rollouts, or a record of why not.
//
// Threads:   none; functions over a GroupState.
#pragma once

#include <vector>

#include "absl/time/time.h"

#include "controller/core/event.h"
#include "controller/core/planning/decision.h"
#include "controller/core/planning/planning.h"

namespace evenkeel::controller {

// True where the plan was this group's. In mode shadow the controller's own are recorded and not carried out.
bool TakePlan(Planning planning, const PlanComputed& plan, absl::Time now, Effects& effects);

// Has `operation` tell of `decisions`, ascending by layer.
void TellDecisions(std::vector<LayerDecision> decisions, OperationProgress& operation);

}  // namespace evenkeel::controller
