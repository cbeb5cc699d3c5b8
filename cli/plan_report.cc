// SPDX-License-Identifier: Apache-2.0
#include "cli/plan_report.h"

#include <cstddef>

#include "algos/base/ids.h"
#include "algos/imbalance.h"
#include "algos/moves.h"
#include "algos/placement.h"
#include "algos/rank_cost.h"
#include "algos/shares.h"

namespace evenkeel::cli {

namespace {

double MeanOf(const std::vector<LayerReport>& layers, double LayerReport::*field) {
  double sum = 0;
  for (const LayerReport& layer : layers) sum += layer.*field;
  return layers.empty() ? 1.0 : sum / static_cast<double>(layers.size());
}

}  // namespace

std::vector<double> RankCosts(const algos::Problem& problem, const algos::LayerPlan& plan,
                              std::span<const uint64_t> tokens) {
  const algos::Replicas replicas = algos::Invert(plan.placement, problem.shape.num_experts);
  const std::vector<double> costs =
      algos::RankCosts(algos::RulesOf(problem), problem.shape, replicas, plan.shares, tokens);
  return algos::Attending(costs, problem.dead_ranks);
}

double LevelOf(const algos::Problem& problem, const algos::LayerPlan& plan, std::span<const uint64_t> tokens) {
  const algos::Replicas replicas = algos::Invert(plan.placement, problem.shape.num_experts);
  return algos::LevelOf(algos::RulesOf(problem), problem.shape, replicas, plan.shares, tokens);
}

algos::Shares SolvedShares(const algos::Problem& problem, const algos::Placement& placement,
                           std::span<const uint64_t> tokens) {
  algos::SharesSolver solver;
  const algos::Replicas replicas = algos::Invert(placement, problem.shape.num_experts);
  return solver.Solve(problem.shape, replicas, tokens, {}, algos::RulesOf(problem)).shares;
}

PlanReport ReportOn(const algos::Problem& problem, const std::vector<algos::LayerPlan>& before,
                    const std::vector<algos::LayerPlan>& after) {
  const algos::Load load = algos::TotalLoad(problem);
  PlanReport report;
  for (int l = 0; l < problem.num_layers; ++l) {
    const LayerId layer(l);
    const std::span<const uint64_t> tokens = load.layer(layer);
    const algos::LayerPlan& was = before[layer.idx()];
    algos::LayerPlan plan = after[layer.idx()];
    LayerReport line{.num_moves = algos::CountMoves(problem.shape, was.placement, plan.placement)};
    line.before = LevelOf(problem, was, tokens);
    line.after_even = LevelOf(problem, {.placement = plan.placement}, tokens);
    if (plan.shares.empty()) plan.shares = SolvedShares(problem, plan.placement, tokens);
    line.after_shares = LevelOf(problem, plan, tokens);
    report.num_moves += line.num_moves;
    report.layers.push_back(line);
  }
  report.before = MeanOf(report.layers, &LayerReport::before);
  report.after_even = MeanOf(report.layers, &LayerReport::after_even);
  report.after_shares = MeanOf(report.layers, &LayerReport::after_shares);
  return report;
}

}  // namespace evenkeel::cli
