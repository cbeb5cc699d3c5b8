// SPDX-License-Identifier: Apache-2.0
#include "cli/plan_report.h"

#include <catch2/catch.hpp>
#include <vector>

#include "algos/base/ids.h"
#include "algos/base/rng.h"
#include "algos/imbalance.h"
#include "algos/placement.h"

namespace evenkeel::cli {
namespace {

using algos::LayerPlan;
using algos::Placement;
using algos::Problem;

Problem RandomProblem(Rng& rng) {
  Problem problem{
      .shape = {.num_experts = static_cast<int>(rng.Between(2, 20)), .num_ranks = static_cast<int>(rng.Between(2, 6))}};
  problem.shape.slots_per_rank = problem.shape.num_experts / problem.shape.num_ranks + 2;
  problem.num_layers = 2;
  algos::Load load{.num_layers = 2, .num_experts = problem.shape.num_experts};
  for (int i = 0; i < 2 * problem.shape.num_experts; ++i) load.tokens.push_back(rng.Below(1000));
  problem.episodes = {load};
  return problem;
}

std::vector<LayerPlan> RandomPlans(const Problem& problem, Rng& rng) {
  std::vector<LayerPlan> plans;
  for (int layer = 0; layer < problem.num_layers; ++layer) {
    Placement placement = algos::DefaultPlacement(problem.shape);
    rng.Shuffle(placement.expert_of_slot);
    plans.push_back({.placement = placement});
  }
  return plans;
}

TEST_CASE("costs of tokens alone are rank loads, and each slot of an expert is counted once a rank", "[report]") {
  const uint64_t seed = GENERATE(range<uint64_t>(1, 31));
  CAPTURE(seed);
  Rng rng(seed);
  Problem problem = RandomProblem(rng);
  const LayerPlan plan = RandomPlans(problem, rng)[0];
  const auto tokens = problem.episodes[0].layer(LayerId(0));
  const std::vector<double> loads = algos::EvenRankLoads(plan.placement, problem.shape, tokens);
  const std::vector<double> costs = RankCosts(problem, plan, tokens);
  REQUIRE(costs.size() == loads.size());
  problem.cost = {.per_expert = 7, .per_token = 2};
  problem.capacities.assign(loads.size(), 0.5);
  const std::vector<double> dear = RankCosts(problem, plan, tokens);
  for (int r = 0; r < problem.shape.num_ranks; ++r) {
    const auto rank = static_cast<size_t>(r);
    CHECK(costs[rank] == Approx(loads[rank]).margin(1e-9));
    int used = 0;
    for (int e = 0; e < problem.shape.num_experts; ++e) {
      bool here = false;
      for (int s = 0; s < problem.shape.slots_per_rank; ++s) {
        here = here || plan.placement.expert_of_slot[problem.shape.SlotAt(RankId(r), s).idx()] == ExpertId(e);
      }
      used += here && tokens[static_cast<size_t>(e)] > 0 ? 1 : 0;
    }
    CHECK(dear[rank] == Approx((7 * used + 2 * loads[rank]) / 0.5).margin(1e-9));
  }
}

TEST_CASE("dead ranks are left out of the imbalance", "[report]") {
  Rng rng(3);
  Problem problem = RandomProblem(rng);
  const LayerPlan plan = RandomPlans(problem, rng)[0];
  const auto tokens = problem.episodes[0].layer(LayerId(0));
  std::vector<double> want = RankCosts(problem, plan, tokens);
  want.erase(want.begin() + 1);
  problem.dead_ranks.assign(static_cast<size_t>(problem.shape.num_ranks), false);
  problem.dead_ranks[1] = true;
  CHECK(RankCosts(problem, plan, tokens) == want);
}

TEST_CASE("shares are never worse than an even split, and means and moves are those of the layers", "[report]") {
  const uint64_t seed = GENERATE(range<uint64_t>(1, 31));
  CAPTURE(seed);
  Rng rng(seed);
  const Problem problem = RandomProblem(rng);
  const auto before = RandomPlans(problem, rng), after = RandomPlans(problem, rng);
  const PlanReport report = ReportOn(problem, before, after);
  REQUIRE(report.layers.size() == 2);
  for (const LayerReport& layer : report.layers) {
    CHECK(layer.after_shares <= layer.after_even + 1e-9);
    CHECK(layer.after_shares >= 1);
  }
  CHECK(report.all.before == Approx((report.layers[0].before + report.layers[1].before) / 2));
  CHECK(report.all.num_moves == report.layers[0].num_moves + report.layers[1].num_moves);
  CHECK(!report.all.after_own_shares);
  const PlanReport still = ReportOn(problem, before, before);
  CHECK(still.all.num_moves == 0);
  CHECK(still.all.before == still.all.after_even);
}

TEST_CASE("a plan's own shares are judged beside the best, which are solved by costs and capacities", "[report]") {
  Problem problem{.shape = {.num_experts = 1, .num_ranks = 2, .slots_per_rank = 1}, .num_layers = 1};
  problem.episodes = {{.num_layers = 1, .num_experts = 1, .tokens = {100}}};
  const LayerPlan both{.placement = {.expert_of_slot = {ExpertId(0), ExpertId(0)}}, .shares = {0.75, 0.25}};
  const PlanReport report = ReportOn(problem, {both}, {both});
  CHECK(*report.all.after_own_shares == Approx(1.5));
  CHECK(report.all.after_shares == Approx(1.0));
  problem.capacities = {3, 1};
  CHECK(*ReportOn(problem, {both}, {both}).all.after_own_shares == Approx(1.0));
  CHECK(ReportOn(problem, {both}, {{.placement = both.placement}}).all.after_shares == Approx(1.0));
  CHECK(SolvedShares(problem, both.placement, problem.episodes[0].tokens)[0] == Approx(0.75));
  problem.cost.per_expert = 20;
  // Both ranks use the expert, so each has (100 + 40) / 4 where perfect balance has 120 / 4.
  CHECK(ReportOn(problem, {both}, {{.placement = both.placement}}).all.after_shares == Approx(140.0 / 120.0));
  CHECK(SolvedShares(problem, both.placement, problem.episodes[0].tokens)[0] == Approx(0.85));
}

TEST_CASE("slots of dead ranks serve nothing, and experts that they alone held are lost", "[report]") {
  Problem problem{.shape = {.num_experts = 3, .num_ranks = 3, .slots_per_rank = 2}, .num_layers = 1};
  problem.episodes = {{.num_layers = 1, .num_experts = 3, .tokens = {300, 60, 90}}};
  problem.dead_ranks = {false, false, true};
  const auto placed = [](std::vector<int> experts) {
    Placement placement;
    for (int expert : experts) placement.expert_of_slot.push_back(ExpertId(expert));
    return placement;
  };
  // Of expert 0 a third is on the dead rank; expert 2 is on it alone.
  const LayerPlan before{.placement = placed({0, 1, 0, 0, 0, 2}), .shares = {0.25, 0.25, 0.25, 0.25, 1, 1}};
  const LayerPlan after{.placement = placed({0, 1, 0, 2, 0, 2})};
  const PlanReport report = ReportOn(problem, {before}, {after});
  CHECK(report.all.num_lost_before == 1);
  // Rank 0 has a third of expert 0 and all of expert 1: 160; rank 1 has 200; the mean is 180.
  CHECK(report.all.before == Approx(200.0 / 180));
  CHECK(report.all.after_even == Approx(240.0 / 225));
  CHECK(report.all.after_shares == Approx(1));
}

TEST_CASE("no imbalance is below 1, whichever ranks are dead", "[report]") {
  const uint64_t seed = GENERATE(range<uint64_t>(1, 31));
  CAPTURE(seed);
  Rng rng(seed);
  Problem problem = RandomProblem(rng);
  problem.dead_ranks.assign(static_cast<size_t>(problem.shape.num_ranks), false);
  problem.dead_ranks[rng.Below(problem.dead_ranks.size())] = true;
  const auto before = RandomPlans(problem, rng), after = RandomPlans(problem, rng);
  for (const LayerReport& layer : ReportOn(problem, before, after).layers) {
    CHECK(layer.before >= 1);
    CHECK(layer.after_shares >= 1);
    CHECK(layer.after_even >= layer.after_shares - 1e-9);
  }
}

}  // namespace
}  // namespace evenkeel::cli
