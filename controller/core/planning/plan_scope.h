// SPDX-License-Identifier: Apache-2.0
//
// PlanScope: what one plan of a group is made by and made for: policy, episodes, layers, and what bounds them.
//
// Threads:   none; functions over a GroupState.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/flex/flex.h"
#include "algos/problem.h"
#include "controller/core/group_state.h"
#include "controller/core/planning/decision.h"
#include "controller/core/planning/planning_settings.h"
#include "controller/core/status.h"

namespace evenkeel::controller {

struct PlanScope {
  std::string policy;
  PolicyOptions options;
  std::vector<algos::Placement> placements;  // of policy `static`
  std::string phase;                         // "prefill" or "decode" where its policy plans on its tokens alone
  algos::Problem problem;
  absl::Duration span;                 // that the episodes cover
  std::vector<LayerDecision> skipped;  // layers that are not to be planned, ascending
  // Null where `policy` plans from the episodes: where no Flex follows the group, or what is asked differs from it.
  std::shared_ptr<const algos::Flex> flex;
};

// Of an operator's plan, of `layers` (empty: all). `policy` empty: the configured one, which is that of the phase of
// greater cost where it has one; any other plans on all tokens. `options` go before those configured for that policy.
PlanScope AskedScope(const GroupState& group, std::string policy, const PolicyOptions& options,
                     std::vector<LayerId> layers);

// Takes frozen layers out of a scope; where `skipped` then lists every layer that was to be planned, there is none.
void LeaveOutFrozen(const GroupState& group, PlanScope& scope);

// Has a scope plan on `load` [num_layers * num_experts] instead of what was counted.
void PlanOn(std::span<const uint64_t> load, PlanScope& scope);

// Likewise of the controller's own plan, of the layers worth planning; if `skipped` lists all layers, there is none.
PlanScope OwnScope(GroupState& group, std::string policy);

// How the group is planned now: moves are free of their pace while a Flex gets to know the load.
PlanningSettings PlanningNow(const GroupState& group);

// Of the controller's own plan: layers left out, and layers planned that do not act, by their reason.
void CountDecisions(std::span<const LayerDecision> decisions, GroupTotals& totals);

}  // namespace evenkeel::controller
