// SPDX-License-Identifier: Apache-2.0
//
// PlanReport: what a plan is worth: the imbalance of every layer before and after, and the moves between.
//
// Imbalance is the level (rank_cost.h) of the ranks' costs over capacities among living ranks, judged on the sum of the
// windows that were planned from. Slots of dead ranks serve nothing: their tokens are with the expert's living replicas, or
// nowhere if it has none.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::cli {

struct LayerReport {
  double before = 1;
  double after_even = 1;    // tokens split evenly among replicas
  double after_shares = 1;  // by the best shares for this load; of the same placement no split is better
  std::optional<double> after_own_shares = {};  // by the plan's own, where it has any
  int num_moves = 0;                            // slots that receive an expert their rank did not hold
  int num_lost_before = 0;                      // experts with tokens and without a living replica
};

struct PlanReport {
  std::vector<LayerReport> layers;
  LayerReport all;  // imbalances: means over the layers, own shares where every layer has them; counts: sums
};

// Costs of the living ranks over their capacities when `tokens` follow `plan`: shares parallel to its replicas, or evenly
// where empty.
std::vector<double> RankCosts(const algos::Problem& problem, const algos::LayerPlan& plan,
                              std::span<const uint64_t> tokens);

// The best shares for `tokens`.
algos::Shares SolvedShares(const algos::Problem& problem, const algos::Placement& placement,
                           std::span<const uint64_t> tokens);

// Requires: `before` and `after` [num_layers], fit the problem.
PlanReport ReportOn(const algos::Problem& problem, const std::vector<algos::LayerPlan>& before,
                    const std::vector<algos::LayerPlan>& after);

}  // namespace evenkeel::cli
