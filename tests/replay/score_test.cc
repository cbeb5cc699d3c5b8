// SPDX-License-Identifier: Apache-2.0
#include "algos/replay/score.h"

#include <algorithm>

#include "catch2/catch.hpp"

#include "algos/base/rng.h"
#include "algos/shares.h"
#include "tests/replay/recorded.h"

namespace evenkeel::algos {
namespace {

TEST_CASE("scores count from the warm-up on, moves after it", "[score]") {
  ReplayResult result{.num_windows = 4, .num_layers = 1};
  result.imbalance = {9, 1.1, 1.2, 1.6};
  result.best_shares = {9, 1.0, 1.1, 1.2};
  result.moves = {100, 10, 4, 2};
  result.num_doubled = {9, 1, 2, 3};
  result.num_retired = {0, 0, 3, 0};
  const Scores scores = ScoresOf(result, 1);
  CHECK(scores.imbalance_mean == Approx(1.3));
  CHECK(scores.imbalance_p95 == Approx(1.2 + 0.9 * 0.4));
  CHECK(scores.best_shares_mean == Approx(1.1));
  CHECK(scores.num_moves == 6);
  CHECK(scores.moves_per_layer_per_100_windows == Approx(200));
  CHECK(scores.doubled_slots == Approx(2));
  CHECK(scores.retired_slots == Approx(1));
  CHECK(ScoresOf(result, 3).imbalance_p95 == Approx(1.6));
  CHECK_FALSE(scores.level.has_value());
  result.level = {9, 2.1, 2.2, 2.6};
  result.best_level = {9, 2.0, 2.1, 2.2};
  const auto level = ScoresOf(result, 1).level;
  REQUIRE(level.has_value());
  CHECK(level->mean == Approx(2.3));
  CHECK(level->p95 == Approx(2.2 + 0.9 * 0.4));
  CHECK(level->best_shares_mean == Approx(2.1));
}

TEST_CASE("the noise floor is the mean peak of draws made copy by copy", "[score]") {
  Rng rng(1);
  double sum = 0;
  for (int draw = 0; draw < 4000; ++draw) {
    std::vector<int> counts(8, 0);
    for (int copy = 0; copy < 500; ++copy) ++counts[rng.Below(8)];
    sum += *std::max_element(counts.begin(), counts.end()) / (500.0 / 8);
  }
  CHECK(NoiseFloor(500, 8) == Approx(sum / 4000).epsilon(0.003));
  CHECK(NoiseFloor(500, 1) == Approx(1));
  CHECK(NoiseFloor(0, 8) == 1);
  // 160,000 copies on 32 ranks; numpy's generator gives 1.0290 +- 0.0003.
  CHECK(NoiseFloor(160'000, 32) == Approx(1.029).margin(0.001));
}

// The least imbalance of any placement of the shape with the best shares, by trying all.
double Exhaustive(const Shape& shape, std::span<const uint64_t> tokens, SharesSolver& solver, double mean) {
  Placement placement{std::vector<ExpertId>(static_cast<size_t>(shape.num_slots()), ExpertId(0))};
  double best = 1e300;
  while (true) {
    if (Validate(placement, shape).ok()) {
      best = std::min(best, solver.Solve(shape, Invert(placement, shape.num_experts), tokens).max_rank_load / mean);
    }
    size_t s = 0;
    while (s < placement.expert_of_slot.size() && placement.expert_of_slot[s].value() + 1 == shape.num_experts) {
      placement.expert_of_slot[s++] = ExpertId(0);
    }
    if (s == placement.expert_of_slot.size()) return best;
    placement.expert_of_slot[s] = ExpertId(placement.expert_of_slot[s].value() + 1);
  }
}

TEST_CASE("no placement is better than the lower bound, nor than what is found is worse", "[score]") {
  const uint64_t seed = GENERATE(range(1u, 9u));
  CAPTURE(seed);
  const Shape shape{.num_experts = 4, .num_ranks = 3, .slots_per_rank = 2};
  const std::vector<Load> timeline = DriftingTimeline(2, 1, 4, seed);
  SharesSolver solver;
  double mean = 0;
  for (uint64_t tokens : timeline[1].tokens) mean += static_cast<double>(tokens) / shape.num_ranks;
  const double best = std::max(1.0, Exhaustive(shape, timeline[1].tokens, solver, mean));
  const auto bounds = BestPlacements(timeline, {.shape = shape, .num_layers = 1}, 1);
  REQUIRE(bounds.ok());
  CHECK(bounds->lower <= best + 1e-9);
  CHECK(bounds->found >= best - 1e-9);
}

TEST_CASE("the hottest experts bound what replicas can do", "[score]") {
  const Shape shape{.num_experts = 4, .num_ranks = 4, .slots_per_rank = 2};
  // 4 replicas at most, one on each rank: perfect. With 2 spare slots for two hot experts: 300 / 2 over 200.
  CHECK(LeastImbalance(shape, std::vector<uint64_t>{400, 0, 0, 0}) == Approx(1));
  const Shape tight{.num_experts = 8, .num_ranks = 5, .slots_per_rank = 2};
  CHECK(LeastImbalance(tight, std::vector<uint64_t>{400, 400, 10, 10, 10, 10, 10, 10}) == Approx(200 / (860.0 / 5)));
  CHECK(LeastImbalance(tight, std::vector<uint64_t>(8, 0)) == 1);
}

}  // namespace
}  // namespace evenkeel::algos
