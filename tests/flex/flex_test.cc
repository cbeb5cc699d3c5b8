// SPDX-License-Identifier: Apache-2.0
#include "algos/flex/flex.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "algos/base/rng.h"
#include "algos/flex/flex_follow.h"
#include "algos/flex/flex_policy.h"
#include "algos/imbalance.h"
#include "algos/layer_map.h"
#include "algos/moves.h"
#include "algos/policies/constraints.h"
#include "algos/policies/repair/protection.h"
#include "algos/replay/multinomial.h"
#include "algos/replay/replay.h"
#include "tests/algos/planning_reference.h"

namespace evenkeel::algos {
namespace {

using evenkeel::testing::LogNormalLoad;

std::vector<LayerPlan> Plan(const Problem& problem) {
  const auto plans = FlexPolicy(problem, {});
  REQUIRE(plans.status() == absl::OkStatus());
  return *plans;
}

double HighestLoad(const Problem& problem, const LayerPlan& plan, std::span<const uint64_t> tokens) {
  const auto loads =
      RankLoads(SharedMap(plan.placement, problem.shape.num_experts, plan.shares), problem.shape, tokens);
  return *std::ranges::max_element(loads);
}

int NumDoubled(const Shape& shape, const Placement& placement) {
  int doubled = 0;
  for (int rank = 0; rank < shape.num_ranks; ++rank) {
    std::set<ExpertId> held;
    for (int local = 0; local < shape.slots_per_rank; ++local) {
      const ExpertId expert = placement.expert_of_slot[shape.SlotAt(RankId(rank), local).idx()];
      if (expert.valid() && !held.insert(expert).second) ++doubled;
    }
  }
  return doubled;
}

// Traffic that moves between two profiles.
std::vector<Load> Drifting(int num_windows, int num_layers, int num_experts, uint64_t seed) {
  Rng rng(seed);
  const Load one = LogNormalLoad(num_layers, num_experts, 1.0, rng),
             other = LogNormalLoad(num_layers, num_experts, 1.0, rng);
  std::vector<Load> windows;
  for (int t = 0; t < num_windows; ++t) {
    Load& window = windows.emplace_back(one);
    const double part = 0.5 + 0.5 * std::sin(t * 0.05);
    for (int layer = 0; layer < num_layers; ++layer) {
      const size_t first = static_cast<size_t>(layer * num_experts);
      std::vector<double> weights;
      for (size_t i = first; i < first + static_cast<size_t>(num_experts); ++i) {
        weights.push_back((1 - part) * static_cast<double>(one.tokens[i]) +
                          part * static_cast<double>(other.tokens[i]));
      }
      DrawMultinomial(20'000, weights, std::span(window.tokens).subspan(first, weights.size()), rng);
    }
  }
  return windows;
}

TEST_CASE("eight experts of very different load are shared out perfectly", "[flex]") {
  Problem problem{.shape = {.num_experts = 8, .num_ranks = 8, .slots_per_rank = 2}, .num_layers = 1};
  problem.episodes = {{.num_layers = 1, .num_experts = 8, .tokens = {600, 560, 120, 120, 20, 10, 10, 10}}};
  SECTION("from nothing") {}
  SECTION("from the placement that engines start with") { problem.current = {DefaultPlacement(problem.shape)}; }

  const auto plans = Plan(problem);

  CHECK(HighestLoad(problem, plans[0], problem.episodes[0].layer(LayerId(0))) == Approx(181.25).margin(0.01));
  CHECK(NumDoubled(problem.shape, plans[0].placement) == 0);
}

TEST_CASE("experts of equal mean are placed by whether they are busy together or in turn", "[flex]") {
  // Experts 0 and 1 are hot in half of the windows: the same half, or each its own. Nothing is redundant.
  Problem problem{.shape = {.num_experts = 4, .num_ranks = 2, .slots_per_rank = 2}, .num_layers = 1};
  problem.current = {Placement{{ExpertId(0), ExpertId(2), ExpertId(1), ExpertId(3)}}};
  Problem other = problem;
  other.current = {Placement{{ExpertId(0), ExpertId(1), ExpertId(2), ExpertId(3)}}};
  const auto add = [](Problem& to, std::vector<uint64_t> tokens) {
    to.episodes.push_back({.num_layers = 1, .num_experts = 4, .tokens = std::move(tokens)});
  };
  for (int t = 0; t < 12; ++t) {
    const bool odd = t % 2 == 1;
    // In turn: together on one rank they are always 500.
    add(problem, odd ? std::vector<uint64_t>{400, 100, 250, 250} : std::vector<uint64_t>{100, 400, 250, 250});
    // Together: on one rank they would be 800 or 200.
    add(other, odd ? std::vector<uint64_t>{400, 400, 250, 250} : std::vector<uint64_t>{100, 100, 250, 250});
  }

  const Placement in_turn = Plan(problem)[0].placement, together = Plan(other)[0].placement;

  const auto share_a_rank = [](const Placement& placement) {
    const auto& at = placement.expert_of_slot;
    return std::minmax(at[0], at[1]) == std::minmax(ExpertId(0), ExpertId(1)) ||
           std::minmax(at[2], at[3]) == std::minmax(ExpertId(0), ExpertId(1));
  };
  CHECK(share_a_rank(in_turn));
  CHECK_FALSE(share_a_rank(together));
}

TEST_CASE("plans obey budget, dead ranks, pins and capacities, and double nothing", "[flex]") {
  const uint64_t seed = GENERATE(range(uint64_t{1}, uint64_t{31}));
  CAPTURE(seed);
  Rng rng(seed);
  Problem problem{.shape = {.num_experts = 24, .num_ranks = 6, .slots_per_rank = 6}, .num_layers = 2, .num_nodes = 2};
  problem.episodes = Drifting(8, 2, 24, seed);
  problem.current.assign(2, DefaultPlacement(problem.shape));
  const bool has_dead = rng.Chance(0.5), is_bound = rng.Chance(0.5);
  if (has_dead) problem.dead_ranks = {false, false, true, false, false, false};
  if (rng.Chance(0.5)) problem.pins = {{LayerId(1), ExpertId(3), RankId(4)}, {LayerId(1), ExpertId(20), RankId(0)}};
  if (rng.Chance(0.5)) problem.capacities = {1, 1, 1, 0.5, 1, 2};
  if (is_bound) problem.moves_max = {3, 1};

  const auto plans = Plan(problem);

  for (int layer = 0; layer < 2; ++layer) {
    const LayerPlan& plan = plans[static_cast<size_t>(layer)];
    CHECK(Validate(plan.placement, problem.shape) == absl::OkStatus());
    CHECK(NumDoubled(problem.shape, plan.placement) == 0);
    CHECK(Validate(SharedMap(plan.placement, 24, plan.shares), problem.shape) == absl::OkStatus());
    if (is_bound && !has_dead && problem.pins.empty()) {
      CHECK(CountMoves(problem.shape, problem.current[static_cast<size_t>(layer)], plan.placement) <=
            problem.MovesMax(LayerId(layer)));
    }
    for (int local = 0; has_dead && local < 6; ++local) {
      CHECK(plan.placement.expert_of_slot[static_cast<size_t>(12 + local)] == kNoExpert);
    }
    for (const Pin& pin : problem.pins) {
      if (pin.layer != LayerId(layer)) continue;
      const auto first = plan.placement.expert_of_slot.begin() + pin.rank.value() * 6;
      CHECK(std::find(first, first + 6, pin.expert) != first + 6);
    }
  }
}

// The least level of any expert after any window.
int FollowProtected(Problem& problem, const Protection& protection) {
  problem.current.assign(2, DefaultPlacement(problem.shape));
  Flex flex(problem.shape, 2, {.settle_windows = 5});
  int least = protection.num_levels();
  for (const Load& window : Drifting(40, 2, 24, 3)) {
    flex.Observe(window);
    problem.episodes = {window};
    const auto improvements = flex.Improve(problem);
    REQUIRE(improvements.ok());
    for (const Flex::Improvement& improvement : *improvements) {
      problem.current[improvement.layer.idx()] = improvement.placement;
    }
    for (const Placement& placement : problem.current) {
      least = std::min(least, std::ranges::min(protection.LevelsOf(placement)));
    }
  }
  return least;
}

TEST_CASE("one window after the next no expert loses protection that is asked for", "[flex]") {
  Problem problem{.shape = {.num_experts = 24, .num_ranks = 6, .slots_per_rank = 9}, .num_layers = 2, .num_nodes = 3};
  problem.survive = {.ranks = 0, .hosts = 1};
  const Protection protection(problem);
  CHECK(FollowProtected(problem, protection) == 1);
  problem.survive = {};
  CHECK(FollowProtected(problem, protection) == 0);  // the same load, not asked
}

TEST_CASE("what a lost host takes of protection is restored at once, beyond the pace", "[flex]") {
  Problem problem{.shape = {.num_experts = 24, .num_ranks = 6, .slots_per_rank = 9}, .num_layers = 2, .num_nodes = 3};
  problem.survive = {.ranks = 0, .hosts = 1};
  const Protection protection(problem);
  FollowProtected(problem, protection);
  Flex flex(problem.shape, 2, {.moves_per_window = 0, .settle_windows = 0});
  flex.Observe(problem.episodes.front());
  problem.dead_ranks = {false, false, false, false, true, true};
  const auto restored = flex.Improve(problem);
  REQUIRE(restored.ok());
  REQUIRE(restored->size() == 2);
  for (const Flex::Improvement& improvement : *restored) {
    REQUIRE(Validate(improvement.placement, problem.shape).ok());
    // The two hosts that are left have 36 slots for 24 experts.
    CHECK(std::ranges::count(Protection(problem).LevelsOf(improvement.placement), 1) == 12);
    problem.current[improvement.layer.idx()] = improvement.placement;
  }
  flex.Observe(problem.episodes.front());
  CHECK(flex.Improve(problem)->empty());
}

TEST_CASE("a rank of twice the capacity gets twice the load", "[flex]") {
  Rng rng(7);
  Problem problem{.shape = {.num_experts = 32, .num_ranks = 4, .slots_per_rank = 10}, .num_layers = 1};
  problem.episodes = {LogNormalLoad(1, 32, 0.7, rng)};
  problem.current = {DefaultPlacement(problem.shape)};
  problem.capacities = {2, 1, 1, 1};

  const auto plans = Plan(problem);

  const auto loads = RankLoads(SharedMap(plans[0].placement, 32, plans[0].shares), problem.shape,
                               problem.episodes[0].layer(LayerId(0)));
  const double total = loads[0] + loads[1] + loads[2] + loads[3];
  CHECK(loads[0] / total == Approx(0.4).margin(0.01));
}

TEST_CASE("groups of experts stay on their node", "[flex]") {
  Rng rng(8);
  Problem problem{.shape = {.num_experts = 32, .num_ranks = 4, .slots_per_rank = 9},
                  .num_layers = 1,
                  .num_nodes = 2,
                  .num_expert_groups = 4};
  problem.episodes = {LogNormalLoad(1, 32, 1.0, rng)};
  // Each rank its eight experts, and one of its neighbour on the node.
  Placement placement;
  for (int rank = 0; rank < 4; ++rank) {
    for (int local = 0; local < 8; ++local) placement.expert_of_slot.push_back(ExpertId(rank * 8 + local));
    placement.expert_of_slot.push_back(ExpertId((rank ^ 1) * 8));
  }
  problem.current = {placement};

  const auto plans = Plan(problem);

  for (size_t slot = 0; slot < 36; ++slot) {
    const ExpertId expert = plans[0].placement.expert_of_slot[slot];
    if (expert.valid()) CHECK(expert.value() / 16 == static_cast<int>(slot) / 18);
  }
}

TEST_CASE("unknown options are refused by name", "[flex]") {
  Problem problem{.shape = {.num_experts = 2, .num_ranks = 2, .slots_per_rank = 2}, .num_layers = 1};
  problem.episodes = {{.num_layers = 1, .num_experts = 2, .tokens = {1, 2}}};

  CHECK(FlexPolicy(problem, {.options = {{"speed", 1}}}).status().code() == absl::StatusCode::kInvalidArgument);
  problem.episodes.clear();
  CHECK(FlexPolicy(problem, {}).status().code() == absl::StatusCode::kInvalidArgument);
}

struct Followed {
  ReplayResult result;
  std::vector<std::vector<ExpertId>> placements;  // by change
};

Followed Follow(std::span<const Load> timeline, const Problem& problem, const FlexOptions& options) {
  const auto planner = FollowWithFlex(options, problem);
  REQUIRE(planner.status() == absl::OkStatus());
  Followed followed;
  const auto result = Replay(timeline, 0, {.shape = problem.shape}, *planner, {.on_map = [&](const MapChange& change) {
                               followed.placements.push_back(change.placement.expert_of_slot);
                             }});
  REQUIRE(result.status() == absl::OkStatus());
  followed.result = *result;
  return followed;
}

TEST_CASE("a followed timeline keeps the pace, doubles nothing and comes out the same every time", "[flex]") {
  const uint64_t seed = GENERATE(1u, 2u, 3u);
  CAPTURE(seed);
  const auto timeline = Drifting(160, 3, 48, seed);
  Problem problem{.shape = {.num_experts = 48, .num_ranks = 8, .slots_per_rank = 7}, .num_layers = 3};
  const FlexOptions options{.moves_per_window = 0.1, .moves_saved_max = 3, .settle_windows = 60};

  const Followed first = Follow(timeline, problem, options), second = Follow(timeline, problem, options);

  CHECK(first.result.moves == second.result.moves);
  CHECK(first.result.imbalance == second.result.imbalance);
  CHECK(first.placements == second.placements);
  for (int layer = 0; layer < 3; ++layer) {
    int moves = 0;
    for (int t = 61; t < 160; ++t) moves += first.result.moves[first.result.At(t, LayerId(layer))];
    CHECK(moves <= 10);
    for (int t = 0; t < 160; ++t) CHECK(first.result.num_doubled[first.result.At(t, LayerId(layer))] == 0);
  }
  double late = 0;
  for (int t = 100; t < 160; ++t) {
    for (int layer = 0; layer < 3; ++layer) late += first.result.imbalance[first.result.At(t, LayerId(layer))];
  }
  CHECK(late / 180 < 1.06);
}

TEST_CASE("what flex does before a window depends on the windows before it alone", "[flex]") {
  const auto timeline = Drifting(80, 2, 32, 4);
  Problem problem{.shape = {.num_experts = 32, .num_ranks = 4, .slots_per_rank = 9}, .num_layers = 2};
  const FlexOptions options{.settle_windows = 30};

  const Followed whole = Follow(timeline, problem, options);
  const Followed cut = Follow(std::span(timeline).first(50), problem, options);

  for (size_t i = 0; i < cut.result.imbalance.size(); ++i) CHECK(cut.result.imbalance[i] == whole.result.imbalance[i]);
  for (size_t i = 0; i < cut.placements.size(); ++i) REQUIRE(cut.placements[i] == whole.placements[i]);
}

TEST_CASE("experts that a dead rank took along are placed at once, whatever the pace", "[flex]") {
  const auto timeline = Drifting(20, 1, 16, 5);
  Problem problem{.shape = {.num_experts = 16, .num_ranks = 4, .slots_per_rank = 6}, .num_layers = 1};
  problem.current = {DefaultPlacement(problem.shape)};
  problem.episodes = {timeline.back()};
  problem.dead_ranks = {false, true, false, false};
  Flex flex(problem.shape, 1, {.moves_per_window = 0, .settle_windows = 0});
  for (const Load& window : timeline) flex.Observe(window);

  const auto improvements = flex.Improve(problem);

  REQUIRE(improvements.status() == absl::OkStatus());
  REQUIRE(improvements->size() == 1);
  CHECK(Validate(improvements->front().placement, problem.shape) == absl::OkStatus());
  for (size_t s = 6; s < 12; ++s) CHECK(improvements->front().placement.expert_of_slot[s] == kNoExpert);
}

}  // namespace
}  // namespace evenkeel::algos
