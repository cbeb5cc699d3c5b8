// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/deepseek_vec.h"

#include <catch2/catch.hpp>

#include "tests/algos/exhaustive_reference.h"
#include "tests/algos/peer_cases.h"

namespace evenkeel::algos {
namespace {

TEST_CASE("deepseek_vec gives what the definition gives", "[deepseek_vec]") {
  testing::CheckGolden("deepseek_vec.txt", PlanDeepseekVec);
}

TEST_CASE("deepseek_vec plans every shape", "[deepseek_vec]") {
  const uint64_t seed = GENERATE(range(0, 20));
  for (const Shape shape : {Shape{8, 4, 2}, Shape{7, 3, 4}, Shape{5, 1, 9}, Shape{9, 9, 1}, Shape{3, 8, 2}}) {
    testing::CheckProperties(PlanDeepseekVec, shape, seed);
    testing::CheckScaling(PlanDeepseekVec, shape, seed);
  }
  testing::CheckProperties(PlanDeepseekVec, {.num_experts = 256, .num_ranks = 320, .slots_per_rank = 1}, seed);
}

TEST_CASE("one slot a rank leaves experts in order, replicas behind them", "[deepseek_vec]") {
  Problem problem{.shape = {.num_experts = 4, .num_ranks = 6, .slots_per_rank = 1}, .num_layers = 1};
  problem.episodes = {{.num_layers = 1, .num_experts = 4, .tokens = {10, 90, 40, 20}}};
  CHECK(PlanDeepseekVec(problem)->front() == testing::PlacementOf({0, 1, 2, 3, 1, 1}));
}

TEST_CASE("episodes are kept apart: the expert that peaks gets the replica, not the one with more in all",
          "[deepseek_vec]") {
  Problem problem{.shape = {.num_experts = 3, .num_ranks = 4, .slots_per_rank = 1}, .num_layers = 1};
  problem.episodes = {{.num_layers = 1, .num_experts = 3, .tokens = {50, 100, 0}},
                      {.num_layers = 1, .num_experts = 3, .tokens = {52, 0, 40}}};
  CHECK(PlanDeepseekVec(problem)->front().expert_of_slot[3] == ExpertId(1));
  const Load total = TotalLoad(problem);
  CHECK(total.tokens[0] > total.tokens[1]);
}

TEST_CASE("replicas are dealt to ranks in snake order", "[deepseek_vec]") {
  Problem problem{.shape = {.num_experts = 6, .num_ranks = 3, .slots_per_rank = 2}, .num_layers = 1};
  problem.episodes = {{.num_layers = 1, .num_experts = 6, .tokens = {10, 60, 30, 40, 20, 50}}};
  CHECK(PlanDeepseekVec(problem)->front() == testing::PlacementOf({1, 0, 5, 4, 3, 2}));
}

TEST_CASE("deepseek_vec never beats the exhaustive search", "[deepseek_vec]") {
  const uint64_t seed = GENERATE(range(0, 15));
  CAPTURE(seed);
  Rng rng(seed);
  const Shape shape{.num_experts = 5, .num_ranks = 3, .slots_per_rank = 3};
  const Problem problem = testing::RandomProblem(shape, 1, rng);
  const auto& tokens = problem.episodes[0].tokens;
  CHECK(testing::LargestLoad(PlanDeepseekVec(problem)->front(), shape, tokens) >=
        testing::ExhaustiveSearch(shape, tokens).BestEvenSplit() - 1e-9);
}

TEST_CASE("deepseek_vec refuses dead ranks and options by name", "[deepseek_vec]") {
  testing::CheckRefusesDeadRanks(PlanDeepseekVec, "deepseek_vec");
  CHECK_FALSE(DeepseekVecPolicy(testing::EightExperts(), {.options = {{"depth", 1}}}).ok());
}

}  // namespace
}  // namespace evenkeel::algos
