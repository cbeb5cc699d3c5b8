// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/swift.h"

#include <catch2/catch.hpp>

#include "tests/algos/exhaustive_reference.h"
#include "tests/algos/peer_cases.h"

namespace evenkeel::algos {
namespace {

// Experts side by side, each rank's further slots with what the next rank has.
Placement AppendLayout(const Shape& shape) {
  Placement placement;
  const int own = shape.num_experts / shape.num_ranks;
  for (int rank = 0; rank < shape.num_ranks; ++rank) {
    for (int slot = 0; slot < shape.slots_per_rank; ++slot) {
      placement.expert_of_slot.push_back(ExpertId((rank * own + slot) % shape.num_experts));
    }
  }
  return placement;
}

int MovesBetween(const Placement& before, const Placement& after, const Shape& shape) {
  int moves = 0;
  for (int slot = 0; slot < shape.num_slots(); ++slot) {
    const auto first = before.expert_of_slot.begin() + slot / shape.slots_per_rank * shape.slots_per_rank;
    const auto end = first + shape.slots_per_rank;
    moves += std::find(first, end, after.expert_of_slot[static_cast<size_t>(slot)]) == end ? 1 : 0;
  }
  return moves;
}

TEST_CASE("swift_balancer and swift give what their definitions give", "[swift]") {
  testing::CheckGolden("swift_balancer.txt", PlanSwiftBalancer);
  testing::CheckGolden("swift.txt", PlanSwift);
}

TEST_CASE("swift plans every shape with no more slots a rank than experts", "[swift]") {
  const uint64_t seed = GENERATE(range(0, 20));
  for (const auto plan : {PlanSwiftBalancer, PlanSwift}) {
    for (const Shape shape : {Shape{8, 4, 3}, Shape{7, 3, 4}, Shape{9, 1, 9}, Shape{9, 9, 1}, Shape{3, 8, 2}}) {
      testing::CheckProperties(plan, shape, seed);
      testing::CheckScaling(plan, shape, seed);
    }
  }
  testing::CheckProperties(PlanSwift, {.num_experts = 256, .num_ranks = 320, .slots_per_rank = 1}, seed % 2);
}

TEST_CASE("no layer gets worse, no expert comes twice to a rank, and an even layer stays", "[swift]") {
  const uint64_t seed = GENERATE(range(0, 40));
  CAPTURE(seed);
  Rng rng(seed);
  const Shape shape{.num_experts = 16, .num_ranks = 4, .slots_per_rank = 6};
  Problem problem{.shape = shape, .num_layers = 1};
  problem.episodes = {testing::LogNormalLoad(1, 16, 1.2, rng)};
  problem.current = {AppendLayout(shape)};
  const auto& tokens = problem.episodes[0].tokens;
  const Placement planned = PlanSwift(problem)->front();
  CHECK(testing::LargestLoad(planned, shape, tokens) <=
        testing::LargestLoad(problem.current[0], shape, tokens) * (1 + 1e-6));
  for (int rank = 0; rank < shape.num_ranks; ++rank) {
    const auto first = planned.expert_of_slot.begin() + rank * shape.slots_per_rank;
    std::vector<ExpertId> experts(first, first + shape.slots_per_rank);
    std::sort(experts.begin(), experts.end());
    CHECK(std::adjacent_find(experts.begin(), experts.end()) == experts.end());
  }
  problem.episodes[0].tokens.assign(16, 0);
  CHECK(PlanSwift(problem)->front() == problem.current[0]);
}

TEST_CASE("round after round the corrected weight goes on where the published one stalls", "[swift]") {
  Rng rng(3);
  const Shape shape{.num_experts = 256, .num_ranks = 32, .slots_per_rank = 9};
  Problem problem{.shape = shape, .num_layers = 4};
  problem.episodes = {testing::LogNormalLoad(4, 256, 1, rng)};
  const auto after_rounds = [&](testing::PlanFunction plan) {
    problem.current.assign(4, AppendLayout(shape));
    for (int round = 0; round < 4; ++round) problem.current = *plan(problem);
    double sum = 0;
    for (int layer = 0; layer < 4; ++layer) {
      const auto tokens = problem.episodes[0].layer(LayerId(layer));
      double total = 0;
      for (uint64_t value : tokens) total += static_cast<double>(value);
      sum += testing::LargestLoad(problem.current[static_cast<size_t>(layer)], shape, tokens) / (total / 32);
    }
    return sum / 4;
  };
  const double published = after_rounds(PlanSwiftBalancer), corrected = after_rounds(PlanSwift);
  CAPTURE(published, corrected);
  CHECK(published > 1.05);
  CHECK(corrected < 1.02);
}

TEST_CASE("between two ranks no more than one expert moves each way, unless slots would stay blank", "[swift]") {
  const uint64_t seed = GENERATE(range(0, 20));
  CAPTURE(seed);
  Rng rng(seed);
  const Shape shape{.num_experts = 24, .num_ranks = 6, .slots_per_rank = 4};
  Problem problem{.shape = shape, .num_layers = 1};
  problem.episodes = {testing::LogNormalLoad(1, 24, 1.2, rng)};
  problem.current = {AppendLayout(shape)};
  const Placement planned = PlanSwift(problem)->front();
  CHECK(MovesBetween(problem.current[0], planned, shape) <= 6 * 5);
  for (int to = 0; to < 6; ++to) {
    std::vector<int> from(6, 0);
    for (int slot = 0; slot < 4; ++slot) {
      const int home = planned.expert_of_slot[static_cast<size_t>(to * 4 + slot)].value() / 4;
      if (home != to) ++from[static_cast<size_t>(home)];
    }
    CHECK(*std::max_element(from.begin(), from.end()) <= 1);
  }
}

TEST_CASE("swift_balancer on the eight experts does no better than deepseek", "[swift]") {
  Problem problem = testing::EightExperts();
  problem.current = {testing::PlacementOf({0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7})};
  const auto& tokens = problem.episodes[0].tokens;
  const double largest = testing::LargestLoad(PlanSwiftBalancer(problem)->front(), problem.shape, tokens);
  CHECK(largest >= 232);
  CHECK(largest < testing::LargestLoad(problem.current[0], problem.shape, tokens));
  CHECK(testing::ExhaustiveSearch(problem.shape, tokens).BestEvenSplit() == Approx(590.0 / 3));
}

TEST_CASE("blank slots are filled and experts that are nowhere come back", "[swift]") {
  const uint64_t seed = GENERATE(range(0, 30));
  CAPTURE(seed);
  Rng rng(seed);
  const Shape shape{.num_experts = 9, .num_ranks = 4, .slots_per_rank = 3};
  Problem problem = testing::RandomProblem(shape, 1, rng);
  problem.current = {DefaultPlacement(shape)};
  auto& slots = problem.current[0].expert_of_slot;
  if (seed % 3 == 0) slots.assign(slots.size(), ExpertId(4));
  for (ExpertId& expert : slots) {
    if (seed % 3 != 0 && rng.Chance(0.4)) expert = kNoExpert;
  }
  for (const auto plan : {PlanSwiftBalancer, PlanSwift}) {
    const auto placements = plan(problem);
    REQUIRE(placements.ok());
    CHECK(Validate(placements->front(), shape).ok());
  }
}

TEST_CASE("swift refuses what it cannot express by name", "[swift]") {
  testing::CheckRefusesDeadRanks(PlanSwiftBalancer, "swift_balancer");
  testing::CheckRefusesDeadRanks(PlanSwift, "swift");
  Problem problem = testing::EightExperts();
  CHECK_FALSE(SwiftPolicy(problem, {.options = {{"depth", 1}}}).ok());
  CHECK_FALSE(SwiftBalancerPolicy(problem, {.options = {{"depth", 1}}}).ok());
  problem.shape = {.num_experts = 8, .num_ranks = 2, .slots_per_rank = 9};
  CHECK(PlanSwift(problem).status().message() == "swift: 9 slots a rank are more than 8 experts");
}

}  // namespace
}  // namespace evenkeel::algos
