// SPDX-License-Identifier: Apache-2.0
//
// Planning over a part of the ranks, which grows and shrinks: every policy, from world < num_ranks on.
#include <catch2/catch.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "algos/base/rng.h"
#include "algos/flex/flex.h"
#include "algos/imbalance.h"
#include "algos/policies/registry.h"

namespace evenkeel::algos {
namespace {

// What each of `num_ranks` ranks is to be: those of `living`.
std::vector<bool> AllBut(const std::set<int>& living, int num_ranks) {
  std::vector<bool> dead(static_cast<size_t>(num_ranks), true);
  for (int rank : living) dead[static_cast<size_t>(rank)] = false;
  return dead;
}

// Ten ranks at most, of which six made the group; the others are absent.
Problem BeforeGrowth(uint64_t seed) {
  Rng rng(seed);
  Problem problem{.shape = {.num_experts = 24, .num_ranks = 10, .slots_per_rank = 6}, .num_layers = 2};
  Load load{.num_layers = 2, .num_experts = 24};
  for (int i = 0; i < 48; ++i) load.tokens.push_back(100 + rng.Below(2000));
  problem.episodes = {load};
  problem.current.assign(2, DefaultPlacement(problem.shape, 6));
  problem.dead_ranks = AllBut({0, 1, 2, 3, 4, 5}, 10);
  return problem;
}

std::set<int> RanksIn(const Shape& shape, const Placement& placement) {
  std::set<int> ranks;
  for (int s = 0; s < shape.num_slots(); ++s) {
    if (placement.expert_of_slot[static_cast<size_t>(s)].valid()) ranks.insert(shape.RankOf(SlotIdx(s)).value());
  }
  return ranks;
}

PolicyConfig ConfigOf(std::string_view policy, const Problem& problem) {
  PolicyConfig config;
  if (policy == "static") config.placements = problem.current;
  return config;
}

TEST_CASE("every policy plans for the ranks there are, as they grow from six to ten and shrink to others",
          "[growing]") {
  const uint64_t seed = GENERATE(range(uint64_t{1}, uint64_t{6}));
  CAPTURE(seed);
  for (const NamedPolicy& policy : AllPolicies()) {
    CAPTURE(policy.name);
    Problem problem = BeforeGrowth(seed);
    for (const std::set<int>& living :
         {std::set<int>{0, 1, 2, 3, 4, 5}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 2, 4, 5, 6, 7, 8, 9}, {0, 3, 7, 8, 9}}) {
      problem.dead_ranks = AllBut(living, 10);
      const auto plans = PlanBy(policy.name, problem, ConfigOf(policy.name, problem));
      REQUIRE(plans.status() == absl::OkStatus());
      for (size_t layer = 0; layer < 2; ++layer) {
        const Placement& placement = (*plans)[layer].placement;
        CHECK(Validate(placement, problem.shape) == absl::OkStatus());
        const std::set<int> used = RanksIn(problem.shape, placement);
        for (int rank : used) CHECK(living.contains(rank));
        // A rank that has just come is given something; a static plan is what it is, and random exchanges two experts.
        if (policy.name != "static" && policy.name != "random") CHECK(used.size() == living.size());
        problem.current[layer] = placement;
      }
    }
  }
}

TEST_CASE("balance is among the ranks that take part", "[growing]") {
  const std::vector<double> loads = {3, 0, 1, 0};
  CHECK(LayerImbalance(Attending(loads, {})) == Approx(3));
  CHECK(LayerImbalance(Attending(loads, {false, true, false, true})) == Approx(1.5));
  CHECK(Attending(std::vector<uint64_t>{5, 6}, {true, false}) == std::vector<uint64_t>{6});
}

// Tokens of two halves of the experts, busy in turn.
Load WindowOf(const Shape& shape, int number, Rng& rng) {
  Load load{.num_layers = 1, .num_experts = shape.num_experts};
  for (int e = 0; e < shape.num_experts; ++e) {
    const bool busy = (e % 2 == 0) == (number % 4 < 2);
    load.tokens.push_back((busy ? 3000u : 300u) + rng.Below(500));
  }
  return load;
}

TEST_CASE("a flex that has followed the load knows it still when ranks come and go", "[growing]") {
  const uint64_t seed = GENERATE(range(uint64_t{1}, uint64_t{4}));
  CAPTURE(seed);
  Rng rng(seed);
  const Shape shape{.num_experts = 24, .num_ranks = 8, .slots_per_rank = 6};
  Problem problem{.shape = shape, .num_layers = 1};
  problem.current = {DefaultPlacement(shape, 5)};
  problem.dead_ranks = AllBut({0, 1, 2, 3, 4}, 8);
  const FlexOptions options{.moves_per_window = 1, .moves_saved_max = 100, .settle_windows = 10};
  Flex flex(shape, 1, options);
  for (int i = 0; i < 60; ++i) {
    problem.episodes = {WindowOf(shape, i, rng)};
    flex.Observe(problem.episodes.front());
    const auto improvements = flex.Improve(problem);
    REQUIRE(improvements.status() == absl::OkStatus());
    for (const auto& improvement : *improvements) problem.current[0] = improvement.placement;
  }
  CHECK(RanksIn(shape, problem.current[0]) == std::set<int>{0, 1, 2, 3, 4});
  const int observed = flex.num_observed();
  const double settled = flex.Measure(problem, LayerId(0), problem.current[0]);

  problem.dead_ranks = AllBut({0, 1, 2, 3, 4, 5, 6, 7}, 8);
  const double with_blank = flex.Measure(problem, LayerId(0), problem.current[0]);
  auto filled = flex.ImproveBy(problem);

  // The new ranks are filled at once, from what is known already.
  CHECK(with_blank > settled + 0.1);
  REQUIRE(filled.status() == absl::OkStatus());
  REQUIRE(filled->size() == 1);
  CHECK(RanksIn(shape, filled->front().placement).size() == 8);
  CHECK(flex.Measure(problem, LayerId(0), filled->front().placement) < with_blank - 0.1);
  CHECK(flex.num_observed() == observed);

  problem.current[0] = filled->front().placement;
  problem.dead_ranks = AllBut({2, 3, 4, 5, 6, 7}, 8);
  const auto emptied = flex.Improve(problem);
  REQUIRE(emptied.status() == absl::OkStatus());
  REQUIRE(emptied->size() == 1);
  CHECK(Validate(emptied->front().placement, shape) == absl::OkStatus());
  CHECK(RanksIn(shape, emptied->front().placement) == std::set<int>{2, 3, 4, 5, 6, 7});
}

TEST_CASE("a flex searches again in vain no longer where the ranks have changed", "[growing]") {
  Rng rng(3);
  const Shape shape{.num_experts = 8, .num_ranks = 4, .slots_per_rank = 4};
  Problem problem{.shape = shape, .num_layers = 1};
  problem.current = {DefaultPlacement(shape, 2)};
  problem.dead_ranks = AllBut({0, 1}, 4);
  Flex flex(shape, 1, {.moves_per_window = 4, .moves_saved_max = 16, .settle_windows = 0});
  for (int i = 0; i < 40; ++i) {
    problem.episodes = {WindowOf(shape, i, rng)};
    flex.Observe(problem.episodes.front());
    const auto improvements = flex.Improve(problem);
    REQUIRE(improvements.status() == absl::OkStatus());
    for (const auto& improvement : *improvements) problem.current[0] = improvement.placement;
  }
  problem.dead_ranks = AllBut({0, 1, 2, 3}, 4);
  const auto grown = flex.Improve(problem);
  REQUIRE(grown.status() == absl::OkStatus());
  REQUIRE(grown->size() == 1);
  CHECK(RanksIn(shape, grown->front().placement).size() > 2);
}

}  // namespace
}  // namespace evenkeel::algos
