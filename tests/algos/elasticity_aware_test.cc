// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/elasticity_aware.h"

#include <catch2/catch.hpp>

#include "algos/policies/peers/deepseek.h"
#include "tests/algos/peer_cases.h"

namespace evenkeel::algos {
namespace {

TEST_CASE("elasticity_aware gives what the definition gives", "[elasticity_aware]") {
  testing::CheckGolden("elasticity_aware.txt", PlanElasticityAware);
}

TEST_CASE("elasticity_aware plans every shape", "[elasticity_aware]") {
  const uint64_t seed = GENERATE(range(0, 20));
  for (const Shape shape : {Shape{8, 4, 2}, Shape{7, 3, 4}, Shape{5, 1, 9}, Shape{9, 9, 1}, Shape{3, 8, 2}}) {
    testing::CheckProperties(PlanElasticityAware, shape, seed);
    testing::CheckScaling(PlanElasticityAware, shape, seed);
  }
  testing::CheckProperties(PlanElasticityAware, {.num_experts = 256, .num_ranks = 320, .slots_per_rank = 1}, seed);
}

TEST_CASE("with all ranks alive it is deepseek", "[elasticity_aware]") {
  const uint64_t seed = GENERATE(range(0, 10));
  CAPTURE(seed);
  Rng rng(seed);
  Problem problem = testing::RandomProblem({.num_experts = 24, .num_ranks = 8, .slots_per_rank = 4}, 2, rng);
  problem.num_nodes = 2;
  problem.num_expert_groups = 4;
  CHECK(*PlanElasticityAware(problem) == *PlanDeepseek(problem));
}

TEST_CASE("a dead rank gets nothing and the living ones hold every expert", "[elasticity_aware]") {
  const uint64_t seed = GENERATE(range(0, 30));
  CAPTURE(seed);
  Rng rng(seed);
  Problem problem = testing::RandomProblem({.num_experts = 16, .num_ranks = 8, .slots_per_rank = 4}, 2, rng);
  problem.dead_ranks.assign(8, false);
  for (uint64_t i = 0; i < 1 + seed % 4; ++i) problem.dead_ranks[rng.Below(8)] = true;
  const auto placements = PlanElasticityAware(problem);
  REQUIRE(placements.ok());
  for (const Placement& placement : *placements) {
    CHECK(Validate(placement, problem.shape).ok());
    for (int slot = 0; slot < 32; ++slot) {
      const bool blank = placement.expert_of_slot[static_cast<size_t>(slot)] == kNoExpert;
      CHECK(blank == !problem.IsLive(RankId(slot / 4)));
    }
  }
  problem.current.assign(2, DefaultPlacement(problem.shape));
  problem.layers = {LayerId(1)};
  const auto one = PlanElasticityAware(problem);
  CHECK((*one)[0] == problem.current[0]);
  CHECK((*one)[1] == (*placements)[1]);
}

TEST_CASE("elasticity_aware by hand: dead blocks are put into the flat plan of the living, in order",
          "[elasticity_aware]") {
  // Flat over two ranks: 8 to the first, 4 and 3 to the second, 1 to the first.
  Problem problem{.shape = {.num_experts = 4, .num_ranks = 3, .slots_per_rank = 2}, .num_layers = 1};
  problem.episodes = {{.num_layers = 1, .num_experts = 4, .tokens = {8, 4, 3, 1}}};
  problem.dead_ranks = {false, true, false};
  CHECK(PlanElasticityAware(problem)->front() == testing::PlacementOf({0, 3, -1, -1, 1, 2}));
  problem.shape.num_ranks = 4;
  problem.dead_ranks = {true, false, true, false};
  CHECK(PlanElasticityAware(problem)->front() == testing::PlacementOf({-1, -1, 0, 3, -1, -1, 1, 2}));

  // The redundant slot halves 8; of the replicas 4 4 3 4, in the order of slots, the first and the last meet.
  problem.shape = {.num_experts = 3, .num_ranks = 3, .slots_per_rank = 2};
  problem.episodes = {{.num_layers = 1, .num_experts = 3, .tokens = {8, 4, 3}}};
  problem.dead_ranks = {false, false, true};
  CHECK(PlanElasticityAware(problem)->front() == testing::PlacementOf({0, 0, 1, 2, -1, -1}));
}

TEST_CASE("no living rank has room for all: refused", "[elasticity_aware]") {
  Problem problem = testing::EightExperts();
  problem.dead_ranks = {true, true, true, true, true, false, false, false};
  CHECK(PlanElasticityAware(problem).status().code() == absl::StatusCode::kInvalidArgument);
  CHECK_FALSE(ElasticityAwarePolicy(testing::EightExperts(), {.options = {{"depth", 1}}}).ok());
}

}  // namespace
}  // namespace evenkeel::algos
