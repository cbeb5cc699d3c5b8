// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/default_eplb.h"

#include <catch2/catch.hpp>

#include "tests/algos/exhaustive_reference.h"
#include "tests/algos/peer_cases.h"

namespace evenkeel::algos {
namespace {

TEST_CASE("default_eplb gives what vllm-ascend's definition gives", "[default_eplb]") {
  testing::CheckGolden("default_eplb.txt", PlanDefaultEplb);
}

TEST_CASE("default_eplb plans every shape with no more slots a rank than experts", "[default_eplb]") {
  const uint64_t seed = GENERATE(range(0, 20));
  for (const Shape shape : {Shape{8, 4, 3}, Shape{7, 3, 4}, Shape{9, 1, 9}, Shape{9, 9, 1}, Shape{3, 8, 2}}) {
    testing::CheckProperties(PlanDefaultEplb, shape, seed);
    testing::CheckScaling(PlanDefaultEplb, shape, seed);
  }
  testing::CheckProperties(PlanDefaultEplb, {.num_experts = 256, .num_ranks = 320, .slots_per_rank = 1}, seed % 3);
}

TEST_CASE("default_eplb puts no expert twice on a rank, however few the others", "[default_eplb]") {
  const uint64_t seed = GENERATE(range(0, 60));
  CAPTURE(seed);
  Rng rng(seed);
  const Shape shape{.num_experts = static_cast<int>(rng.Between(3, 9)),
                    .num_ranks = static_cast<int>(rng.Between(3, 6)),
                    .slots_per_rank = 3};
  const Problem problem = testing::RandomProblem(shape, 2, rng);
  const auto placements = PlanDefaultEplb(problem);
  REQUIRE(placements.ok());
  for (const Placement& placement : *placements) {
    for (int first = 0; first < shape.num_slots(); first += 3) {
      const auto slot = [&](int local) { return placement.expert_of_slot[static_cast<size_t>(first + local)]; };
      CHECK((slot(0) != slot(1) && slot(1) != slot(2) && slot(0) != slot(2)));
    }
  }
}

TEST_CASE("experts that stay on a rank stay in their slot", "[default_eplb]") {
  Problem problem = testing::EightExperts();
  const Placement fresh = PlanDefaultEplb(problem)->front();
  problem.current = {fresh};
  CHECK(PlanDefaultEplb(problem)->front() == fresh);
  std::swap(problem.current[0].expert_of_slot[0], problem.current[0].expert_of_slot[1]);
  CHECK(PlanDefaultEplb(problem)->front() == problem.current[0]);
}

TEST_CASE("default_eplb on the eight experts is as good as deepseek", "[default_eplb]") {
  const Problem problem = testing::EightExperts();
  const double largest =
      testing::LargestLoad(PlanDefaultEplb(problem)->front(), problem.shape, problem.episodes[0].tokens);
  CHECK(largest == Approx(232));
  CHECK(testing::ExhaustiveSearch(problem.shape, problem.episodes[0].tokens).BestEvenSplit() < largest);
}

TEST_CASE("default_eplb refuses what it cannot express by name", "[default_eplb]") {
  testing::CheckRefusesDeadRanks(PlanDefaultEplb, "default_eplb");
  Problem problem = testing::EightExperts();
  problem.shape = {.num_experts = 8, .num_ranks = 2, .slots_per_rank = 9};
  CHECK(PlanDefaultEplb(problem).status().message() == "default_eplb: 9 slots a rank are more than 8 experts");
  CHECK_FALSE(DefaultEplbPolicy(problem, {.options = {{"depth", 1}}}).ok());
}

}  // namespace
}  // namespace evenkeel::algos
