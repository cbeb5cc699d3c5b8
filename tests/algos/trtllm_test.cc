// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/trtllm.h"

#include <catch2/catch.hpp>

#include "tests/algos/exhaustive_reference.h"
#include "tests/algos/peer_cases.h"

namespace evenkeel::algos {
namespace {

TEST_CASE("trtllm gives what the definition gives", "[trtllm]") { testing::CheckGolden("trtllm.txt", PlanTrtllm); }

TEST_CASE("trtllm plans every shape", "[trtllm]") {
  const uint64_t seed = GENERATE(range(0, 20));
  for (const Shape shape : {Shape{8, 4, 2}, Shape{7, 3, 4}, Shape{5, 1, 9}, Shape{9, 9, 1}, Shape{3, 8, 2}}) {
    testing::CheckProperties(PlanTrtllm, shape, seed);
    testing::CheckScaling(PlanTrtllm, shape, seed);
  }
  testing::CheckProperties(PlanTrtllm, {.num_experts = 256, .num_ranks = 320, .slots_per_rank = 1}, seed);
}

TEST_CASE("trtllm on the eight experts is as good as deepseek", "[trtllm]") {
  const Problem problem = testing::EightExperts();
  CHECK(testing::LargestLoad(PlanTrtllm(problem)->front(), problem.shape, problem.episodes[0].tokens) == Approx(232));
}

TEST_CASE("trtllm never beats the exhaustive search, and finds the best of equal loads", "[trtllm]") {
  const uint64_t seed = GENERATE(range(0, 15));
  CAPTURE(seed);
  Rng rng(seed);
  const Shape shape{.num_experts = 5, .num_ranks = 3, .slots_per_rank = 3};
  Problem problem = testing::RandomProblem(shape, 1, rng);
  const auto largest = [&] {
    return testing::LargestLoad(PlanTrtllm(problem)->front(), shape, problem.episodes[0].tokens);
  };
  CHECK(largest() >= testing::ExhaustiveSearch(shape, problem.episodes[0].tokens).BestEvenSplit() - 1e-9);
  problem.shape = {.num_experts = 5, .num_ranks = 5, .slots_per_rank = 1};
  CHECK(testing::LargestLoad(PlanTrtllm(problem)->front(), problem.shape, problem.episodes[0].tokens) ==
        Approx(testing::ExhaustiveSearch(problem.shape, problem.episodes[0].tokens).BestEvenSplit()));
}

TEST_CASE("equal loads give replicas to the highest ids, no load to the lowest", "[trtllm]") {
  Problem problem{.shape = {.num_experts = 4, .num_ranks = 3, .slots_per_rank = 2}, .num_layers = 2};
  problem.episodes = {{.num_layers = 2, .num_experts = 4, .tokens = {5, 5, 5, 5, 0, 0, 0, 0}}};
  const auto placements = PlanTrtllm(problem);
  CHECK(Invert((*placements)[0], 4).num_replicas(ExpertId(3)) == 2);
  CHECK(Invert((*placements)[0], 4).num_replicas(ExpertId(2)) == 2);
  CHECK((*placements)[1] == testing::PlacementOf({0, 0, 1, 1, 2, 3}));
}

TEST_CASE("trtllm by hand: equal quotients go to the larger id, equal ranks to the lower, and experts are doubled",
          "[trtllm]") {
  Problem problem{.shape = {.num_experts = 4, .num_ranks = 2, .slots_per_rank = 3}, .num_layers = 1};
  // 12 is halved; then 6, 6 and 6 are equal and expert 2 gets the last replica. In order of load: 0 0 1 (6 each)
  // 2 2 3 (3 each); ranks stand at 6 6, 12 6, 12 9, 12 12, 15 12.
  problem.episodes = {{.num_layers = 1, .num_experts = 4, .tokens = {12, 6, 6, 3}}};
  CHECK(PlanTrtllm(problem)->front() == testing::PlacementOf({0, 1, 3, 0, 2, 2}));

  // A hot expert gets more replicas than there are ranks: 100, 50, 33.3 and 25 are all above 1.
  problem.shape = {.num_experts = 3, .num_ranks = 2, .slots_per_rank = 3};
  problem.episodes = {{.num_layers = 1, .num_experts = 3, .tokens = {100, 1, 1}}};
  CHECK(PlanTrtllm(problem)->front() == testing::PlacementOf({0, 0, 1, 0, 0, 2}));
}

TEST_CASE("trtllm refuses dead ranks and options by name", "[trtllm]") {
  testing::CheckRefusesDeadRanks(PlanTrtllm, "trtllm");
  CHECK_FALSE(TrtllmPolicy(testing::EightExperts(), {.options = {{"depth", 1}}}).ok());
}

}  // namespace
}  // namespace evenkeel::algos
