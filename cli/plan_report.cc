// SPDX-License-Identifier: Apache-2.0
#include "cli/plan_report.h"

#include <algorithm>
#include <cstddef>

#include "algos/base/ids.h"
#include "algos/imbalance.h"
#include "algos/moves.h"
#include "algos/placement.h"
#include "algos/rank_cost.h"
#include "algos/shares.h"

namespace evenkeel::cli {

namespace {

// What serves of a plan: slots of dead ranks are blank, their shares go to the other replicas in proportion.
algos::LayerPlan Living(const algos::Problem& problem, const algos::LayerPlan& plan) {
  if (problem.dead_ranks.empty()) return plan;
  const algos::Replicas all = algos::Invert(plan.placement, problem.shape.num_experts);
  algos::LayerPlan living{.placement = plan.placement};
  for (size_t s = 0; s < plan.placement.expert_of_slot.size(); ++s) {
    const SlotIdx slot(static_cast<int>(s));
    if (!problem.IsLive(problem.shape.RankOf(slot))) living.placement.expert_of_slot[s] = kNoExpert;
  }
  if (plan.shares.empty()) return living;
  for (size_t e = 0; e + 1 < all.offsets.size(); ++e) {
    double sum = 0;
    const size_t first = living.shares.size();
    for (auto i = static_cast<size_t>(all.offsets[e]); i < static_cast<size_t>(all.offsets[e + 1]); ++i) {
      if (!problem.IsLive(problem.shape.RankOf(all.slots[i]))) continue;
      living.shares.push_back(plan.shares[i]);
      sum += plan.shares[i];
    }
    const auto count = static_cast<double>(living.shares.size() - first);
    for (size_t i = first; i < living.shares.size(); ++i) {
      living.shares[i] = sum > 0 ? living.shares[i] / sum : 1 / count;
    }
  }
  return living;
}

int NumLost(const algos::Placement& placement, std::span<const uint64_t> tokens) {
  const algos::Replicas replicas = algos::Invert(placement, static_cast<int>(tokens.size()));
  int lost = 0;
  for (size_t e = 0; e < tokens.size(); ++e) {
    lost += tokens[e] > 0 && replicas.slots_of(ExpertId(static_cast<int>(e))).empty();
  }
  return lost;
}

LayerReport Sum(const std::vector<LayerReport>& layers) {
  LayerReport sum{.before = 0, .after_even = 0, .after_shares = 0, .after_own_shares = 0.0};
  for (const LayerReport& layer : layers) {
    sum.before += layer.before, sum.after_even += layer.after_even, sum.after_shares += layer.after_shares;
    if (!layer.after_own_shares) sum.after_own_shares.reset();
    if (sum.after_own_shares) *sum.after_own_shares += *layer.after_own_shares;
    sum.num_moves += layer.num_moves, sum.num_lost_before += layer.num_lost_before;
  }
  return sum;
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
    const algos::LayerPlan serving = Living(problem, was), plan = Living(problem, after[layer.idx()]);
    LayerReport line{.num_moves = algos::CountMoves(problem.shape, was.placement, after[layer.idx()].placement)};
    line.num_lost_before = NumLost(serving.placement, tokens);
    line.before = LevelOf(problem, serving, tokens);
    line.after_even = LevelOf(problem, {.placement = plan.placement}, tokens);
    const algos::Shares best = SolvedShares(problem, plan.placement, tokens);
    line.after_shares = LevelOf(problem, {.placement = plan.placement, .shares = best}, tokens);
    if (!plan.shares.empty()) line.after_own_shares = LevelOf(problem, plan, tokens);
    report.layers.push_back(line);
  }
  report.all = Sum(report.layers);
  const double num_layers = std::max(1, problem.num_layers);
  for (double* mean : {&report.all.before, &report.all.after_even, &report.all.after_shares}) *mean /= num_layers;
  if (report.all.after_own_shares) *report.all.after_own_shares /= num_layers;
  return report;
}

}  // namespace evenkeel::cli
