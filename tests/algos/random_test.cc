// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/random.h"

#include <catch2/catch.hpp>

#include "tests/algos/peer_cases.h"

namespace evenkeel::algos {
namespace {

absl::StatusOr<std::vector<Placement>> PlanWithSeed42(const Problem& problem) { return PlanRandom(problem, 42); }

TEST_CASE("random exchanges what the last slots of two ranks hold, if it does anything", "[random]") {
  const uint64_t seed = GENERATE(range(0, 30));
  CAPTURE(seed);
  Rng rng(seed);
  const Shape shape{.num_experts = 12, .num_ranks = 6, .slots_per_rank = 2};
  Problem problem = testing::RandomProblem(shape, 8, rng);
  problem.current.assign(8, DefaultPlacement(shape));
  const auto placements = PlanRandom(problem, seed);
  REQUIRE(placements.ok());
  for (const Placement& placement : *placements) {
    std::vector<size_t> changed;
    for (size_t slot = 0; slot < 12; ++slot) {
      if (placement.expert_of_slot[slot] != problem.current[0].expert_of_slot[slot]) changed.push_back(slot);
    }
    // No expert is there twice, so nothing stands in the way.
    REQUIRE(changed.size() == 2);
    CHECK(changed[0] % 2 == 1);
    CHECK(changed[1] % 2 == 1);
    CHECK(placement.expert_of_slot[changed[0]] == problem.current[0].expert_of_slot[changed[1]]);
  }
}

TEST_CASE("another seed draws other ranks, the same seed the same ones, each layer its own", "[random]") {
  Rng rng(1);
  const Problem problem = testing::RandomProblem({.num_experts = 64, .num_ranks = 32, .slots_per_rank = 2}, 4, rng);
  CHECK(*PlanRandom(problem, 7) == *PlanRandom(problem, 7));
  CHECK(*PlanRandom(problem, 7) != *PlanRandom(problem, 8));
  const auto placements = *PlanRandom(problem, 7);
  CHECK(placements[0] != placements[1]);
  CHECK(RandomPolicy(problem, {})->front().placement == PlanRandom(problem, 42)->front());
  CHECK(RandomPolicy(problem, {.options = {{"seed", 7}}})->front().placement == placements[0]);
}

TEST_CASE("random plans every shape and never puts an expert on a rank again", "[random]") {
  const uint64_t seed = GENERATE(range(0, 20));
  for (const Shape shape : {Shape{8, 4, 3}, Shape{7, 3, 4}, Shape{9, 1, 9}, Shape{9, 9, 1}, Shape{3, 8, 2}}) {
    testing::CheckProperties(PlanWithSeed42, shape, seed);
  }
  Rng rng(seed);
  const Shape shape{.num_experts = 4, .num_ranks = 4, .slots_per_rank = 3};
  const auto placements = *PlanRandom(testing::RandomProblem(shape, 4, rng), seed);
  for (const Placement& placement : placements) {
    for (size_t first = 0; first < 12; first += 3) {
      const auto& experts = placement.expert_of_slot;
      CHECK((experts[first] != experts[first + 2] && experts[first + 1] != experts[first + 2]));
    }
  }
}

TEST_CASE("random refuses dead ranks and seeds that are not whole or not there", "[random]") {
  testing::CheckRefusesDeadRanks(PlanWithSeed42, "random");
  const Problem problem = testing::EightExperts();
  CHECK(RandomPolicy(problem, {.options = {{"seed", 0.5}}}).status().message() ==
        "policy random: option seed is 0.5, which is not whole");
  CHECK_FALSE(RandomPolicy(problem, {.options = {{"seed", -1}}}).ok());
  CHECK_FALSE(RandomPolicy(problem, {.options = {{"depth", 1}}}).ok());
}

}  // namespace
}  // namespace evenkeel::algos
