// SPDX-License-Identifier: Apache-2.0
//
// Pricing: of a computed plan, which layers are worth carrying out, and why the others are not. Judged by
// levels (rank_cost.h): for groups whose ranks are alike and cost what their tokens are, imbalances.
//
// Threads:   none; pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "algos/placement.h"
#include "algos/policy.h"
#include "algos/problem.h"
#include "controller/core/event.h"
#include "controller/core/planning/decision.h"
#include "controller/core/planning/fast_loop.h"
#include "controller/core/planning/layer_choice.h"
#include "controller/core/rollout/slot_table.h"

namespace evenkeel::controller {

struct PriceRules {
  bool force = false;   // an operator asked: act wherever anything moves
  absl::Duration span;  // that the problem's episodes cover
};

// The placement that `planned` asks of `layer`, without what condemned slots would hold.
std::vector<algos::Placement> TargetsOf(const algos::Problem& problem, const std::vector<algos::LayerPlan>& planned,
                                        const SlotTable& slots);

// One for each layer that was planned, ascending. Requires: `targets` of the same layers in the same order.
std::vector<PricedLayer> PriceOf(const algos::Problem& problem, std::span<const algos::Placement> targets,
                                 const GroupInfo& info, const GroupSettings& settings, const SlotTable& slots,
                                 FastLoop& fast_loop, PriceRules rules);

// "3 of 8 layers, 12 moves; 4 steady, 1 resting; " and the first reason against, for people.
std::string Summarise(std::span<const LayerDecision> decisions);

}  // namespace evenkeel::controller
