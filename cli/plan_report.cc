// SPDX-License-Identifier: Apache-2.0
#include "cli/plan_report.h"

#include <algorithm>
#include <cstddef>

#include "algos/base/ids.h"
#include "algos/imbalance.h"
#include "algos/moves.h"
#include "algos/placement.h"
#include "algos/shares.h"

namespace evenkeel::cli {

namespace {

// Shares can be solved for: the solver counts tokens on ranks of one speed.
bool CountsTokensAlone(const algos::Problem& problem) {
  return problem.cost.per_expert == 0 &&
         std::ranges::all_of(problem.capacities, [&](double c) { return c == problem.capacities.front(); });
}

double MeanOf(const std::vector<LayerReport>& layers, double LayerReport::*field) {
  double sum = 0;
  for (const LayerReport& layer : layers) sum += layer.*field;
  return layers.empty() ? 1.0 : sum / static_cast<double>(layers.size());
}

}  // namespace

std::vector<double> RankCosts(const algos::Problem& problem, const algos::LayerPlan& plan,
                              std::span<const uint64_t> tokens) {
  const algos::Shape& shape = problem.shape;
  const algos::Replicas replicas = algos::Invert(plan.placement, shape.num_experts);
  std::vector<double> costs(static_cast<size_t>(shape.num_ranks), 0.0);
  for (int e = 0; e < shape.num_experts; ++e) {
    const ExpertId expert(e);
    const auto first = static_cast<size_t>(replicas.offsets[expert.idx()]);
    const std::span<const SlotIdx> slots = replicas.slots_of(expert);
    RankId last_rank;  // slots ascend, so replicas on one rank follow each other and use the expert once
    for (size_t i = 0; i < slots.size(); ++i) {
      const double share = plan.shares.empty() ? 1.0 / static_cast<double>(slots.size()) : plan.shares[first + i];
      const double part = share * static_cast<double>(tokens[expert.idx()]);
      if (part <= 0) continue;
      const RankId rank = shape.RankOf(slots[i]);
      costs[rank.idx()] += problem.cost.per_token * part + (rank == last_rank ? 0 : problem.cost.per_expert);
      last_rank = rank;
    }
  }
  std::vector<double> living;
  for (int r = 0; r < shape.num_ranks; ++r) {
    const RankId rank(r);
    if (!problem.IsLive(rank)) continue;
    living.push_back(problem.capacities.empty() ? costs[rank.idx()]
                                                : costs[rank.idx()] / problem.capacities[rank.idx()]);
  }
  return living;
}

algos::Shares SolvedShares(const algos::Problem& problem, const algos::Placement& placement,
                           std::span<const uint64_t> tokens) {
  algos::SharesSolver solver;
  return solver.Solve(problem.shape, algos::Invert(placement, problem.shape.num_experts), tokens).shares;
}

PlanReport ReportOn(const algos::Problem& problem, const std::vector<algos::LayerPlan>& before,
                    const std::vector<algos::LayerPlan>& after) {
  const algos::Load load = algos::TotalLoad(problem);
  PlanReport report;
  double shares_sum = 0;
  bool shares_known = true;
  for (int l = 0; l < problem.num_layers; ++l) {
    const LayerId layer(l);
    const std::span<const uint64_t> tokens = load.layer(layer);
    const algos::LayerPlan& was = before[layer.idx()];
    algos::LayerPlan plan = after[layer.idx()];
    LayerReport line{.num_moves = algos::CountMoves(problem.shape, was.placement, plan.placement)};
    line.before = algos::LayerImbalance(RankCosts(problem, was, tokens));
    line.after_even = algos::LayerImbalance(RankCosts(problem, {.placement = plan.placement}, tokens));
    if (plan.shares.empty() && CountsTokensAlone(problem)) plan.shares = SolvedShares(problem, plan.placement, tokens);
    if (!plan.shares.empty()) line.after_shares = algos::LayerImbalance(RankCosts(problem, plan, tokens));
    shares_known = shares_known && line.after_shares.has_value();
    shares_sum += line.after_shares.value_or(0);
    report.num_moves += line.num_moves;
    report.layers.push_back(line);
  }
  report.before = MeanOf(report.layers, &LayerReport::before);
  report.after_even = MeanOf(report.layers, &LayerReport::after_even);
  if (shares_known) report.after_shares = shares_sum / static_cast<double>(problem.num_layers);
  return report;
}

}  // namespace evenkeel::cli
