// SPDX-License-Identifier: Apache-2.0
//
// PlanReport: what a plan is worth: the imbalance of every layer before and after, and the moves between.
//
// Imbalance is the level (rank_cost.h) of the ranks' costs over capacities among living ranks, judged on the load that
// it was planned from.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::cli {

struct LayerReport {
  double before = 1;
  double after_even = 1;    // tokens split evenly among replicas
  double after_shares = 1;  // by the plan's shares, else the best there are
  int num_moves = 0;        // slots that receive an expert their rank did not hold
};

struct PlanReport {
  std::vector<LayerReport> layers;
  double before = 1, after_even = 1, after_shares = 1;  // means over the layers
  int64_t num_moves = 0;
};

// Costs of the living ranks over their capacities when `tokens` follow `plan`: shares parallel to its replicas, or
// evenly where empty.
std::vector<double> RankCosts(const algos::Problem& problem, const algos::LayerPlan& plan,
                              std::span<const uint64_t> tokens);

// The best shares for `tokens`.
algos::Shares SolvedShares(const algos::Problem& problem, const algos::Placement& placement,
                           std::span<const uint64_t> tokens);

// Requires: `before` and `after` [num_layers], fit the problem.
PlanReport ReportOn(const algos::Problem& problem, const std::vector<algos::LayerPlan>& before,
                    const std::vector<algos::LayerPlan>& after);

}  // namespace evenkeel::cli
