// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/static.h"

#include <catch2/catch.hpp>

#include "tests/algos/peer_cases.h"

namespace evenkeel::algos {
namespace {

std::string MessageOf(const Problem& problem, std::vector<Placement> placements) {
  return std::string(StaticPolicy(problem, {.placements = std::move(placements)}).status().message());
}

TEST_CASE("static gives the placements that are named, whatever the load", "[static]") {
  Rng rng(1);
  const Shape shape{.num_experts = 6, .num_ranks = 3, .slots_per_rank = 3};
  Problem problem = testing::RandomProblem(shape, 2, rng);
  const std::vector<Placement> placements = {testing::PlacementOf({5, 4, 3, 2, 1, 0, 0, 0, -1}),
                                             testing::PlacementOf({0, 1, 2, 3, 4, 5, 0, 1, 2})};
  CHECK(PlacementsOf(*StaticPolicy(problem, {.placements = placements})) == placements);
  problem.current.assign(2, DefaultPlacement(shape));
  problem.layers = {LayerId(1)};
  const auto one = *PlanStatic(problem, placements);
  CHECK(one[0] == problem.current[0]);
  CHECK(one[1] == placements[1]);
  CHECK(PlacementsOf(*StaticPolicy(problem, {})) == problem.current);
}

TEST_CASE("slots of dead ranks come out blank", "[static]") {
  Problem problem = testing::EightExperts();
  problem.shape.slots_per_rank = 3;
  problem.dead_ranks.assign(8, false);
  problem.dead_ranks[2] = true;
  const Placement named = DefaultPlacement(problem.shape);
  const Placement planned = PlanStatic(problem, {named})->front();
  for (size_t slot = 0; slot < 24; ++slot) {
    CHECK(planned.expert_of_slot[slot] == (slot / 3 == 2 ? kNoExpert : named.expert_of_slot[slot]));
  }
}

TEST_CASE("placements that do not fit are refused by what does not", "[static]") {
  const Problem problem = testing::EightExperts();
  Placement placement = DefaultPlacement(problem.shape);
  CHECK(MessageOf(problem, {}) == "static: no placements are named");  // nor is there a current one
  CHECK(MessageOf(problem, {placement, placement}) == "static: placements of 2 layers; the group has 1");
  Placement other = placement;
  other.expert_of_slot.pop_back();
  CHECK(MessageOf(problem, {other}) == "static: layer 0 has 15 slots; the group has 8 ranks x 2 = 16");
  other = placement;
  other.expert_of_slot[3] = ExpertId(8);
  CHECK(MessageOf(problem, {other}) == "static: layer 0: placement: slot 3 holds expert 8; experts are 0 to 7");
  other.expert_of_slot.assign(16, ExpertId(0));
  CHECK(MessageOf(problem, {other}) == "static: layer 0: placement: expert 1 has no slot");
  CHECK(StaticPolicy(problem, {.options = {{"depth", 1}}, .placements = {placement}}).status().code() ==
        absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace evenkeel::algos
