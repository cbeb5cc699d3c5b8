// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/vllm.h"

#include <catch2/catch.hpp>

#include "tests/algos/exhaustive_reference.h"
#include "tests/algos/peer_cases.h"

namespace evenkeel::algos {
namespace {

TEST_CASE("vllm gives what vLLM's definition gives, slots kept", "[vllm]") {
  testing::CheckGolden("vllm.txt", PlanVllm);
}

TEST_CASE("vllm plans every shape", "[vllm]") {
  const uint64_t seed = GENERATE(range(0, 20));
  for (const Shape shape : {Shape{8, 4, 2}, Shape{7, 3, 4}, Shape{5, 1, 9}, Shape{9, 9, 1}, Shape{3, 8, 2}}) {
    testing::CheckProperties(PlanVllm, shape, seed);
    testing::CheckScaling(PlanVllm, shape, seed);
  }
  testing::CheckProperties(PlanVllm, {.num_experts = 256, .num_ranks = 320, .slots_per_rank = 1}, seed);
}

TEST_CASE("keeping slots moves experts within their rank only", "[vllm]") {
  const uint64_t seed = GENERATE(range(0, 30));
  CAPTURE(seed);
  Rng rng(seed);
  const Shape shape{.num_experts = 16, .num_ranks = 4, .slots_per_rank = 6};
  Problem problem = testing::RandomProblem(shape, 1, rng);
  const Placement fresh = PlanVllm(problem)->front();
  problem.current = {DefaultPlacement(shape)};
  rng.Shuffle(problem.current[0].expert_of_slot);
  const Placement kept = PlanVllm(problem)->front();
  for (int rank = 0; rank < shape.num_ranks; ++rank) {
    const auto experts_of = [&](const Placement& placement) {
      const auto first = placement.expert_of_slot.begin() + rank * shape.slots_per_rank;
      std::vector<ExpertId> experts(first, first + shape.slots_per_rank);
      std::sort(experts.begin(), experts.end());
      return experts;
    };
    CHECK(experts_of(kept) == experts_of(fresh));
  }
  problem.current = {kept};
  CHECK(PlanVllm(problem)->front() == kept);
}

TEST_CASE("vllm on the eight experts is as good as deepseek, and the best even split is better", "[vllm]") {
  const Problem problem = testing::EightExperts();
  CHECK(testing::LargestLoad(PlanVllm(problem)->front(), problem.shape, problem.episodes[0].tokens) == Approx(232));
  testing::ExhaustiveSearch search(problem.shape, problem.episodes[0].tokens);
  CHECK(search.BestEvenSplit() == Approx(590.0 / 3));
}

TEST_CASE("an idle layer gets its extra replicas from expert 0", "[vllm]") {
  Problem problem{.shape = {.num_experts = 8, .num_ranks = 12, .slots_per_rank = 1}, .num_layers = 1};
  problem.episodes = {{.num_layers = 1, .num_experts = 8, .tokens = std::vector<uint64_t>(8, 0)}};
  CHECK(PlanVllm(problem)->front() == testing::PlacementOf({0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0}));
}

TEST_CASE("vllm refuses dead ranks and options by name", "[vllm]") {
  testing::CheckRefusesDeadRanks(PlanVllm, "vllm");
  CHECK(VllmPolicy(testing::EightExperts(), {.options = {{"depth", 1}}}).status().message() ==
        "policy vllm: no option 'depth'; it has none");
}

}  // namespace
}  // namespace evenkeel::algos
