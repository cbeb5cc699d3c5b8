// SPDX-License-Identifier: Apache-2.0
#include "algos/policy.h"

#include <catch2/catch.hpp>
#include <limits>

#include "algos/problem.h"

namespace evenkeel::algos {
namespace {

Problem SmallProblem() {
  Problem problem{.shape = {.num_experts = 4, .num_ranks = 2, .slots_per_rank = 3}, .num_layers = 2};
  problem.episodes = {{.num_layers = 2, .num_experts = 4, .tokens = {1, 2, 3, 4, 5, 6, 7, 8}}};
  return problem;
}

std::string MessageOf(const Problem& problem) { return std::string(Validate(problem).message()); }

TEST_CASE("policies are found by name, and listed in order", "[policy]") {
  const auto policies = AllPolicies();
  REQUIRE(policies.size() >= 2);
  for (size_t i = 0; i < policies.size(); ++i) {
    if (i > 0) CHECK(policies[i - 1].name < policies[i].name);
    CHECK_FALSE(policies[i].summary.empty());
    const auto found = FindPolicy(policies[i].name);
    REQUIRE(found.ok());
    CHECK(*found == policies[i].policy);
  }
  CHECK(FindPolicy("greedy").ok());
  CHECK(FindPolicy("deepseek").ok());
  const auto none = FindPolicy("best");
  CHECK(none.status().code() == absl::StatusCode::kNotFound);
  CHECK(none.status().message().find("deepseek, ") != absl::string_view::npos);
}

TEST_CASE("every policy answers a sound problem and refuses an unsound one", "[policy]") {
  for (const NamedPolicy& policy : AllPolicies()) {
    CAPTURE(std::string(policy.name));
    Problem problem = SmallProblem();
    const auto placements = policy.policy(problem);
    REQUIRE(placements.ok());
    REQUIRE(placements->size() == 2);
    for (const Placement& placement : *placements) CHECK(Validate(placement, problem.shape).ok());
    problem.episodes.clear();
    CHECK(policy.policy(problem).status().code() == absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE("each field of a problem is checked by name", "[problem]") {
  REQUIRE(Validate(SmallProblem()).ok());
  Problem problem = SmallProblem();
  problem.num_nodes = 3;
  CHECK(MessageOf(problem) == "problem: num_nodes is 3, which does not divide 2 ranks");
  problem = SmallProblem();
  problem.num_expert_groups = 3;
  CHECK(MessageOf(problem) == "problem: num_expert_groups is 3, which does not divide 4 experts");
  problem = SmallProblem();
  problem.num_layers = 0;
  CHECK(MessageOf(problem) == "problem: num_layers is 0");
  problem = SmallProblem();
  problem.episodes[0].tokens.pop_back();
  CHECK(MessageOf(problem).rfind("problem: episodes: number 0", 0) == 0);
  problem = SmallProblem();
  problem.current.resize(1);
  CHECK(MessageOf(problem) == "problem: current: 1 placements for 2 layers");
  problem = SmallProblem();
  problem.current.assign(2, DefaultPlacement(problem.shape));
  problem.current[1].expert_of_slot[5] = ExpertId(4);
  CHECK(MessageOf(problem) == "problem: current: layer 1 slot 5 holds unknown expert 4");
  problem.current[1].expert_of_slot.pop_back();
  CHECK(MessageOf(problem) == "problem: current: layer 1 has 5 slots; the group has 6");
  problem = SmallProblem();
  problem.dead_ranks = {true};
  CHECK(MessageOf(problem) == "problem: dead_ranks: 1 for 2 ranks");
  problem.dead_ranks = {true, false};
  CHECK(MessageOf(problem) == "problem: dead_ranks: the living ranks have 3 slots for 4 experts");
  problem = SmallProblem();
  problem.layers = {LayerId(0)};
  CHECK(MessageOf(problem).rfind("problem: layers: some are to keep", 0) == 0);
  problem.current.assign(2, DefaultPlacement(problem.shape));
  CHECK(Validate(problem).ok());
  problem.layers = {LayerId(1), LayerId(0)};
  CHECK(MessageOf(problem) == "problem: layers: 0 is not ascending");
  problem.layers = {LayerId(2)};
  CHECK(MessageOf(problem) == "problem: layers: there is no layer 2 of 2");
  problem = SmallProblem();
  problem.shape.slots_per_rank = 1;
  CHECK_FALSE(Validate(problem).ok());
}

TEST_CASE("episodes add up, and stay at the largest value where they would overflow", "[problem]") {
  Problem problem = SmallProblem();
  problem.episodes.push_back(problem.episodes[0]);
  problem.episodes[1].tokens[7] = std::numeric_limits<uint64_t>::max() - 1;
  const Load total = TotalLoad(problem);
  CHECK(total.tokens[0] == 2);
  CHECK(total.tokens[6] == 14);
  CHECK(total.tokens[7] == std::numeric_limits<uint64_t>::max());
}

TEST_CASE("no layers named means all of them", "[problem]") {
  Problem problem = SmallProblem();
  CHECK(PlannedLayers(problem) == std::vector<LayerId>{LayerId(0), LayerId(1)});
  problem.layers = {LayerId(1)};
  CHECK(PlannedLayers(problem) == problem.layers);
}

}  // namespace
}  // namespace evenkeel::algos
