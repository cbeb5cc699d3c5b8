// SPDX-License-Identifier: Apache-2.0
//
// LayerChoice: which layers the controller plans by itself, and which layers of a plan it carries out.
//
// Before a plan: layers that are balanced, steady, resting or out of moves are left out. After it: of the layers that
// are worth it, those of the greatest gain within the plan's budgets. What a layer has been through is remembered
// between plans; time is counted in windows.
//
// Threads:   none; functions over plain values.
// Order:     equal gains go to the lower layer.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "algos/base/ids.h"
#include "algos/placement.h"
#include "controller/core/planning/decision.h"
#include "controller/core/planning/planning_settings.h"

namespace evenkeel::controller {

// What is remembered of a layer since its group formed.
struct LayerMemory {
  std::vector<uint64_t> tokens;       // [num_experts] that it was last decided by; empty: never
  uint64_t holdings = 0;              // what its ranks hold since that decision, if all went well
  std::optional<int64_t> rearranged;  // window of the last decision to act
  double promised = 0;                // imbalance, by that decision
  double moves_spent = 0;             // of layer_moves_per_100_windows, not yet regained at `counted`
  int64_t counted = 0;                // window
};

// A layer as a plan would find it.
struct LayerOutline {
  LayerId layer;
  std::span<const uint64_t> tokens;  // [num_experts] that would be planned on
  double imbalance = 0;              // level (rank_cost.h), shares solved; 0: too little load to say
  uint64_t holdings = 0;             // HoldingsOf its placement
};

// Which experts each rank holds, whatever the slots: equal holdings, equal value.
uint64_t HoldingsOf(const algos::Placement& placement, const algos::Shape& shape);

// 1 - cosine similarity, in [0, 1]; 0 of two empty loads, 1 where only one is.
double FluctuationOf(std::span<const uint64_t> before, std::span<const uint64_t> now);

// Whole moves that the layer has left; INT_MAX without a limit.
int MovesLeft(const LayerMemory& memory, const PlanningSettings& settings, int64_t window);

// Why the layer is not to be planned; none: it is.
std::optional<LayerDecision> ReasonNotToPlan(const LayerOutline& layer, const LayerMemory& memory,
                                             const PlanningSettings& settings, int64_t window);

// A layer of a plan, with what it would move.
struct PricedLayer {
  LayerDecision decision;
  uint64_t bytes = 0;
  bool protects = false;  // makes experts survive more: goes first, whatever is left of the layer's own moves
};

// Takes back the decisions to act that the budgets do not allow. `memories` [num_layers].
void KeepWithinBudgets(std::span<PricedLayer> layers, std::span<const LayerMemory> memories,
                       const PlanningSettings& settings, int64_t window);

// Remembers a decision about `tokens`. `holdings`: of the target where it acts, else of the placement that stays.
// Decisions that say nothing about the placement (budgets, conflicts) are not remembered: the layer is planned again.
void Remember(const LayerDecision& decision, std::span<const uint64_t> tokens, uint64_t holdings,
              const PlanningSettings& settings, int64_t window, LayerMemory& memory);

}  // namespace evenkeel::controller
