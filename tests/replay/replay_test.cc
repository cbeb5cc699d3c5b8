// SPDX-License-Identifier: Apache-2.0
#include "algos/replay/replay.h"

#include <map>
#include <numeric>
#include <utility>

#include "catch2/catch.hpp"

#include "algos/imbalance.h"
#include "algos/moves.h"
#include "algos/rank_cost.h"
#include "tests/replay/recorded.h"

namespace evenkeel::algos {
namespace {

constexpr Shape kShape{.num_experts = 12, .num_ranks = 4, .slots_per_rank = 4};
constexpr int kLayers = 2;

Planner Every(int interval, const char* policy = "greedy", const Shape& shape = kShape) {
  auto planner =
      EveryWindows({.interval = interval, .policy = policy, .problem = {.shape = shape, .num_layers = kLayers}});
  REQUIRE(planner.ok());
  return *planner;
}

// Every change, by window and layer.
struct Recorder {
  struct Map {
    Placement placement;
    std::vector<double> shares;
    bool operator==(const Map&) const = default;
  };
  std::map<std::pair<int, int>, Map> maps;

  ReplayObserver Observer() {
    return {.on_map = [this](const MapChange& change) {
      CHECK(change.replicas.slots == Invert(change.placement, kShape.num_experts).slots);
      const bool is_first =
          maps.emplace(std::pair(change.window, change.layer.value()),
                       Map{change.placement, std::vector<double>(change.shares.begin(), change.shares.end())})
              .second;
      CHECK(is_first);
    }};
  }
};

ReplayOptions Slow() {
  ReplayOptions options{.shape = kShape, .solve_shares = true};
  options.links = LinkSpeed{.expert_bytes = 100, .link_bytes_per_second = 60, .window_seconds = 1};
  return options;
}

TEST_CASE("a timeline cut short gives the same maps up to there", "[replay]") {
  const uint64_t seed = GENERATE(1u, 2u, 3u);
  const bool slow = GENERATE(false, true);
  CAPTURE(seed, slow);
  const std::vector<Load> timeline = DriftingTimeline(40, kLayers, kShape.num_experts, seed);
  const ReplayOptions options = slow ? Slow() : ReplayOptions{.shape = kShape, .solve_shares = true};
  Recorder whole, part;
  REQUIRE(Replay(timeline, 0, options, Every(7), whole.Observer()).ok());
  REQUIRE(Replay(std::span(timeline).first(23), 0, options, Every(7), part.Observer()).ok());
  std::erase_if(whole.maps, [](const auto& entry) { return entry.first.first >= 23; });
  CHECK(part.maps.size() > 2 * kLayers);
  CHECK(whole.maps == part.maps);
}

TEST_CASE("the map of a window is blind to that window", "[replay]") {
  std::vector<Load> timeline = DriftingTimeline(15, kLayers, kShape.num_experts, 4);
  Recorder before, after;
  const ReplayOptions options{.shape = kShape, .solve_shares = true};
  REQUIRE(Replay(timeline, 0, options, Every(7), before.Observer()).ok());
  std::reverse(timeline[14].tokens.begin(), timeline[14].tokens.end());
  REQUIRE(Replay(timeline, 0, options, Every(7), after.Observer()).ok());
  CHECK(before.maps.contains({14, 0}));
  CHECK(before.maps == after.maps);
}

TEST_CASE("without plans every window is served by the default placement", "[replay]") {
  const std::vector<Load> timeline = DriftingTimeline(5, kLayers, kShape.num_experts, 5);
  const auto result = Replay(timeline, 2, {.shape = kShape}, NeverPlans());
  REQUIRE(result.ok());
  for (int t = 0; t < 5; ++t) {
    for (int l = 0; l < kLayers; ++l) {
      const auto loads =
          EvenRankLoads(DefaultPlacement(kShape), kShape, timeline[static_cast<size_t>(t)].layer(LayerId(l)));
      CHECK(result->imbalance[result->At(t, LayerId(l))] == Approx(LayerImbalance(loads)));
      CHECK(result->best_shares[result->At(t, LayerId(l))] <= result->imbalance[result->At(t, LayerId(l))] + 1e-9);
    }
  }
  CHECK(std::accumulate(result->rank_loads.begin(), result->rank_loads.begin() + 4, 0.0) == Approx(3 * 4));
  CHECK(std::accumulate(result->moves.begin(), result->moves.end(), 0) == 0);
}

TEST_CASE("levels are of costs over capacities, and shares are solved by them; imbalance is of tokens", "[replay]") {
  const std::vector<Load> timeline = DriftingTimeline(12, kLayers, kShape.num_experts, 9);
  const RankRules rules{.cost = {.per_expert = 300, .per_token = 2}, .capacities = {1, 2, 1, 0.5}};
  const Replicas replicas = Invert(DefaultPlacement(kShape), kShape.num_experts);
  const auto plain = Replay(timeline, 0, {.shape = kShape}, NeverPlans());
  const auto even = Replay(timeline, 0, {.shape = kShape, .rules = rules}, NeverPlans());
  const auto solved = Replay(timeline, 0, {.shape = kShape, .solve_shares = true, .rules = rules}, NeverPlans());
  REQUIRE(plain.ok());
  REQUIRE(even.ok());
  REQUIRE(solved.ok());
  CHECK(plain->level.empty());
  CHECK(even->imbalance == plain->imbalance);
  REQUIRE(even->level.size() == plain->imbalance.size());
  for (int t = 0; t < 12; ++t) {
    const auto tokens = timeline[static_cast<size_t>(t)].layer(LayerId(1));
    const size_t at = even->At(t, LayerId(1));
    CHECK(even->level[at] == LevelOf(rules, kShape, replicas, {}, tokens));
    CHECK(even->best_level[at] <= even->level[at] + 1e-9);
    CHECK(even->best_level[at] >= 1);
  }
  CHECK(std::reduce(solved->level.begin(), solved->level.end()) < std::reduce(even->level.begin(), even->level.end()));
  CHECK(solved->best_level == even->best_level);
  const ReplayOptions wrong{.shape = kShape, .rules = {.capacities = {1, 2}}};
  CHECK(Replay(timeline, 0, wrong, NeverPlans()).status().message() == "problem: capacities: 2 for 4 ranks");
}

TEST_CASE("plans are made at the interval, aligned, and moves count when they are in force", "[replay]") {
  const std::vector<Load> timeline = DriftingTimeline(30, kLayers, kShape.num_experts, 6);
  auto planner = EveryWindows({.interval = 10,
                               .history = 3,
                               .aligned_to = 24,
                               .policy = "greedy",
                               .problem = {.shape = kShape, .num_layers = kLayers}});
  const auto result = Replay(timeline, 0, {.shape = kShape}, *planner);
  REQUIRE(result.ok());
  for (int t = 0; t < 30; ++t) {
    CAPTURE(t);
    const int32_t moves = result->moves[result->At(t, LayerId(0))] + result->moves[result->At(t, LayerId(1))];
    CHECK((moves > 0) == (t == 4 || t == 14 || t == 24));
  }
}

TEST_CASE("with links, slots leave the maps before they are written, and every expert stays served", "[replay]") {
  const uint64_t seed = GENERATE(7u, 8u, 9u);
  CAPTURE(seed);
  const std::vector<Load> timeline = DriftingTimeline(60, kLayers, kShape.num_experts, seed);
  Recorder recorder;
  ReplayOptions options = Slow();
  options.solve_shares = false;
  const auto result = Replay(timeline, 0, options, Every(30), recorder.Observer());
  REQUIRE(result.ok());
  std::vector<Placement> held(kLayers, DefaultPlacement(kShape));
  int num_moves = 0;
  for (const auto& [at, map] : recorder.maps) {
    CAPTURE(at.first, at.second);
    CHECK(Validate(map.placement, kShape).ok());
    Placement& before = held[static_cast<size_t>(at.second)];
    for (size_t s = 0; s < before.expert_of_slot.size(); ++s) {
      const ExpertId old_expert = before.expert_of_slot[s], new_expert = map.placement.expert_of_slot[s];
      if (new_expert.valid() && new_expert != old_expert) {
        CHECK_FALSE(old_expert.valid());  // was retired
        ++num_moves;
      }
    }
    before = map.placement;
  }
  CHECK(num_moves > 4);
  CHECK(std::accumulate(result->moves.begin(), result->moves.end(), 0) == num_moves);
  CHECK(std::accumulate(result->num_retired.begin(), result->num_retired.end(), 0) > 0);
  // The last plan is of window 30; its waves have long arrived.
  CHECK(result->num_retired[result->At(59, LayerId(0))] == 0);
}

TEST_CASE("slow moves end where fast ones do", "[replay]") {
  const std::vector<Load> timeline = DriftingTimeline(60, kLayers, kShape.num_experts, 10);
  const auto fast = Replay(timeline, 0, {.shape = kShape}, Every(50));
  const auto slow = Replay(timeline, 0, Slow(), Every(50));
  REQUIRE(fast.ok());
  REQUIRE(slow.ok());
  for (size_t l = 0; l < kLayers; ++l) {
    CHECK(CountMoves(kShape, fast->placements[l], slow->placements[l]) == 0);
    CHECK(CountMoves(kShape, slow->placements[l], fast->placements[l]) == 0);
  }
}

TEST_CASE("shares solved on what was serve a steady load perfectly where replicas allow it", "[replay]") {
  Load load{.num_layers = 1, .num_experts = 3, .tokens = {300, 200, 100}};
  const std::vector<Load> timeline(10, load);
  const Shape shape{.num_experts = 3, .num_ranks = 2, .slots_per_rank = 2};
  const auto even = Replay(timeline, 0, {.shape = shape}, NeverPlans());
  const auto solved = Replay(timeline, 0, {.shape = shape, .solve_shares = true}, NeverPlans());
  REQUIRE(even.ok());
  REQUIRE(solved.ok());
  CHECK(solved->imbalance.front() == even->imbalance.front());  // nothing is known yet
  CHECK(solved->imbalance.back() == Approx(solved->best_shares.back()));
  CHECK(solved->imbalance.back() < even->imbalance.back());
}

TEST_CASE("a plan's own shares are served", "[replay]") {
  const std::vector<Load> timeline = DriftingTimeline(4, 1, 2, 11);
  const Shape shape{.num_experts = 2, .num_ranks = 2, .slots_per_rank = 2};
  const LayerPlan plan{{{ExpertId(0), ExpertId(1), ExpertId(0), ExpertId(1)}}, {0.25, 0.75, 1.0, 0.0}};
  const Planner planner = [&](const Moment& moment) -> absl::StatusOr<LayerChanges> {
    return moment.window == 1 ? LayerChanges{plan} : LayerChanges{};
  };
  std::vector<std::vector<double>> shares;
  const ReplayObserver observer{
      .on_map = [&](const MapChange& change) { shares.emplace_back(change.shares.begin(), change.shares.end()); }};
  REQUIRE(Replay(timeline, 0, {.shape = shape}, planner, observer).ok());
  CHECK(shares == std::vector<std::vector<double>>{{}, plan.shares});
}

TEST_CASE("doubled experts are counted once less than they stand on a rank", "[replay]") {
  const std::vector<Load> timeline = DriftingTimeline(2, 1, 2, 12);
  const Shape shape{.num_experts = 2, .num_ranks = 2, .slots_per_rank = 3};
  const ExpertId zero(0), one(1);
  const LayerPlan plan{{{zero, zero, zero, one, one, zero}}};
  const auto result = Replay(timeline, 0, {.shape = shape}, [&](const Moment&) { return LayerChanges{plan}; });
  REQUIRE(result.ok());
  CHECK(result->num_doubled == std::vector<int32_t>{3, 3});
}

TEST_CASE("what does not fit is refused with its place", "[replay]") {
  std::vector<Load> timeline = DriftingTimeline(3, kLayers, kShape.num_experts, 13);
  CHECK_FALSE(Replay({}, 0, {.shape = kShape}, NeverPlans()).ok());
  CHECK_FALSE(Replay(timeline, 0, {.shape = kShape, .num_nodes = 3}, NeverPlans()).ok());
  CHECK_FALSE(Replay(timeline, 0, {.shape = kShape, .shares_windows = 0}, NeverPlans()).ok());
  CHECK_FALSE(EveryWindows({.interval = 0, .policy = "greedy"}).ok());
  CHECK(EveryWindows({.policy = "nobody"}).status().code() == absl::StatusCode::kNotFound);
  timeline[2].num_layers = 1;
  const auto wrong = Replay(timeline, 0, {.shape = kShape}, NeverPlans());
  CHECK(wrong.status().message() == "replay: window 2 has 1 layers x 12 experts, not 2 x 12");
}

TEST_CASE("waves without a spare slot are refused with window and layer", "[replay]") {
  const Shape full{.num_experts = 12, .num_ranks = 4, .slots_per_rank = 3};
  const std::vector<Load> timeline = DriftingTimeline(10, kLayers, 12, 14);
  ReplayOptions options = Slow();
  options.shape = full;
  const auto result = Replay(timeline, 0, options, Every(5, "greedy", full));
  CHECK(result.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(result.status().message().substr(0, 16) == "window 5 layer 0");
}

}  // namespace
}  // namespace evenkeel::algos
