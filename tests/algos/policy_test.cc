// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/registry.h"

#include <catch2/catch.hpp>
#include <cmath>
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
    CHECK(found->plan == policies[i].plan);
  }
  CHECK(FindPolicy("greedy").ok());
  CHECK(FindPolicy("deepseek").ok());
  const auto none = FindPolicy("best");
  CHECK(none.status().code() == absl::StatusCode::kNotFound);
  CHECK(none.status().message().find("deepseek, ") != absl::string_view::npos);
}

TEST_CASE("the numbers of vllm-ascend name its policies", "[policy]") {
  CHECK(FindPolicy("0")->name == "random");
  CHECK(FindPolicy("1")->name == "default_eplb");
  CHECK(FindPolicy("2")->name == "swift_balancer");
  CHECK(FindPolicy("3")->name == "flashlb");
  CHECK(FindPolicy("4").status().code() == absl::StatusCode::kNotFound);
  CHECK(FindPolicy("").status().code() == absl::StatusCode::kNotFound);
}

TEST_CASE("every policy answers a sound problem and refuses an unsound one", "[policy]") {
  for (const NamedPolicy& policy : AllPolicies()) {
    CAPTURE(std::string(policy.name));
    Problem problem = SmallProblem();
    PolicyConfig config;
    if (policy.name == "static") config.placements.assign(2, DefaultPlacement(problem.shape));
    const auto plans = policy.plan(problem, config);
    REQUIRE(plans.ok());
    REQUIRE(plans->size() == 2);
    for (const LayerPlan& plan : *plans) {
      CHECK(Validate(plan.placement, problem.shape).ok());
      const size_t num_replicas = Invert(plan.placement, problem.shape.num_experts).slots.size();
      CHECK((plan.shares.empty() || plan.shares.size() == num_replicas));
    }
    CHECK(*PlanBy(policy.name, problem, config) == *plans);
    const auto unknown = policy.plan(problem, {.options = {{"magic", 1}}});
    CHECK(unknown.status().code() == absl::StatusCode::kInvalidArgument);
    CHECK(unknown.status().message().find("'magic'") != absl::string_view::npos);
    problem.episodes.clear();
    CHECK(policy.plan(problem, config).status().code() == absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE("with a rank dead, plan after plan, every policy keeps every expert on the living ones", "[policy]") {
  for (const NamedPolicy& policy : AllPolicies()) {
    CAPTURE(std::string(policy.name));
    Problem problem{.shape = {.num_experts = 8, .num_ranks = 4, .slots_per_rank = 4}, .num_layers = 2};
    problem.episodes = {
        {.num_layers = 2, .num_experts = 8, .tokens = {90, 5, 5, 60, 7, 0, 1, 2, 0, 0, 0, 0, 9, 0, 9, 0}}};
    problem.current.assign(2, DefaultPlacement(problem.shape));
    PolicyConfig config;
    if (policy.name == "static") config.placements = problem.current;
    problem.dead_ranks = {false, false, true, false};
    for (int round = 0; round < 3; ++round) {
      const auto plans = policy.plan(problem, config);
      REQUIRE(plans.ok());
      problem.current = PlacementsOf(*plans);
      for (const Placement& placement : problem.current) {
        CHECK(Validate(placement, problem.shape).ok());
        for (size_t slot = 8; slot < 12; ++slot) CHECK(placement.expert_of_slot[slot] == kNoExpert);
      }
    }
  }
}

TEST_CASE("options are read in order, with defaults, and checked by name and bounds", "[policy]") {
  static constexpr PolicyOption kOptions[] = {{"depth", 2, 1, 8, ""}, {"share", 0.5, 0, 1, ""}};
  CHECK(*ReadOptions("demo", kOptions, {}) == std::vector<double>{2, 0.5});
  CHECK(*ReadOptions("demo", kOptions, {.options = {{"share", 1}}}) == std::vector<double>{2, 1});
  CHECK(ReadOptions("demo", kOptions, {.options = {{"share", 1.5}}}).status().message() ==
        "policy demo: option share is 1.5; it goes from 0 to 1");
  CHECK(ReadOptions("demo", kOptions, {.options = {{"depht", 1}}}).status().message() ==
        "policy demo: no option 'depht'; it has depth, share");
  CHECK_FALSE(ReadOptions("demo", kOptions, {.options = {{"depth", std::nan("")}}}).ok());
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
  problem = SmallProblem();
  problem.pins = {{LayerId(1), ExpertId(3), RankId(2)}};
  CHECK(MessageOf(problem) == "problem: pins: layer 1 expert 3 on rank 2; the group has 2 layers, 4 experts, 2 ranks");
  problem = SmallProblem();
  problem.moves_max = {3, 3};
  CHECK(MessageOf(problem) == "problem: moves_max: moves are counted against `current`, which is empty");
  problem.moves_max = {3, -1};
  CHECK(MessageOf(problem) == "problem: moves_max: layer 1 has -1");
  problem.moves_max = {3};
  CHECK(MessageOf(problem) == "problem: moves_max: 1 for 2 layers");
  problem = SmallProblem();
  problem.capacities = {1};
  CHECK(MessageOf(problem) == "problem: capacities: 1 for 2 ranks");
  problem.capacities = {1, 0};
  CHECK(MessageOf(problem) == "problem: capacities: rank 1 has 0");
  problem = SmallProblem();
  problem.cost = {.per_expert = 0, .per_token = 0};
  CHECK(MessageOf(problem) == "problem: cost: 0 per expert, 0 per token");
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
