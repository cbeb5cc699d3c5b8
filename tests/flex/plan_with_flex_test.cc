// SPDX-License-Identifier: Apache-2.0
#include "algos/flex/plan_with_flex.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "algos/base/rng.h"
#include "algos/moves.h"
#include "tests/algos/planning_reference.h"

namespace evenkeel::algos {
namespace {

using evenkeel::testing::LogNormalLoad;

struct Followed {
  Flex flex;
  Problem problem;
};

// Of five layers, some windows in.
Followed Follow(uint64_t seed) {
  Rng rng(seed);
  Problem problem{.shape = {.num_experts = 32, .num_ranks = 8, .slots_per_rank = 5}, .num_layers = 5};
  Flex flex(problem.shape, problem.num_layers, {});
  for (int window = 0; window < 25; ++window) {
    problem.episodes.push_back(LogNormalLoad(problem.num_layers, problem.shape.num_experts, 1.0, rng));
    flex.Observe(problem.episodes.back());
  }
  problem.current.assign(static_cast<size_t>(problem.num_layers), DefaultPlacement(problem.shape));
  problem.moves_max = {3, 0, 1, 4, 3};
  return {std::move(flex), std::move(problem)};
}

TEST_CASE("a plan makes the moves that it may, with shares for the load expected", "[plan_with_flex]") {
  const uint64_t seed = GENERATE(range<uint64_t>(1, 4));
  CAPTURE(seed);
  Followed group = Follow(seed);
  const auto plans = PlanWithFlex(group.flex, group.problem);
  REQUIRE(plans.status() == absl::OkStatus());
  REQUIRE(plans->size() == 5);
  int num_changed = 0;
  for (size_t l = 0; l < plans->size(); ++l) {
    const LayerPlan& plan = (*plans)[l];
    const Placement& current = group.problem.current[l];
    CHECK(CountMoves(group.problem.shape, current, plan.placement) <= group.problem.moves_max[l]);
    if (plan.placement == current) {
      CHECK(plan.shares.empty());
      continue;
    }
    ++num_changed;
    const LayerId layer(static_cast<int32_t>(l));
    CHECK(plan.shares == group.flex.SharesFor(group.problem, layer, plan.placement));
    CHECK(group.flex.Measure(group.problem, layer, plan.placement) < group.flex.Measure(group.problem, layer, current));
  }
  CHECK(num_changed > 0);
}

TEST_CASE("a plan does not depend on slices, nor on plans before it", "[plan_with_flex]") {
  const Followed group = Follow(7);
  const auto whole = PlanWithFlex(group.flex, group.problem);
  REQUIRE(whole.ok());
  const auto backwards = [](size_t count, const std::function<void(size_t)>& task) {
    for (size_t i = count; i > 0; --i) task(i - 1);
  };
  for (size_t num_slices : {1, 2, 5, 9}) {
    CAPTURE(num_slices);
    const auto sliced = PlanWithFlex(group.flex, group.problem, num_slices, backwards);
    REQUIRE(sliced.ok());
    CHECK(*sliced == *whole);
  }
}

TEST_CASE("layers that are not to be planned stay as they are", "[plan_with_flex]") {
  Followed group = Follow(8);
  group.problem.layers = {LayerId(1), LayerId(3)};
  const auto plans = PlanWithFlex(group.flex, group.problem);
  REQUIRE(plans.ok());
  for (size_t l : {0, 2, 4}) CHECK((*plans)[l].placement == group.problem.current[l]);
  CHECK(std::ranges::any_of(*plans, [&](const LayerPlan& plan) { return !plan.shares.empty(); }));
}

TEST_CASE("without a current placement there is no plan", "[plan_with_flex]") {
  Followed group = Follow(9);
  group.problem.current.clear();
  group.problem.moves_max.clear();
  CHECK(PlanWithFlex(group.flex, group.problem).status() ==
        absl::InvalidArgumentError("flex: current: there is nothing to improve"));
}

}  // namespace
}  // namespace evenkeel::algos
