// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/constraints.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "algos/base/rng.h"
#include "algos/imbalance.h"
#include "algos/moves.h"
#include "algos/policies/peers/deepseek.h"
#include "algos/policies/registry.h"
#include "algos/policies/repair/part_problem.h"
#include "algos/policies/repair/protection.h"
#include "algos/policies/repair/repair.h"
#include "algos/policies/repair/secure.h"
#include "algos/survivability.h"
#include "tests/algos/planning_reference.h"

namespace evenkeel::algos {
namespace {

using testing::RandomPlacement;
using testing::RandomProblem;

// A number of problems in which each constraint is there or not.
Problem ConstrainedProblem(Rng& rng) {
  Problem problem = RandomProblem(rng, 1 << rng.Below(3), 2, 4, 16);
  if (rng.Chance(0.5)) problem.num_expert_groups = 8;
  const auto num_ranks = static_cast<uint64_t>(problem.shape.num_ranks);
  if (problem.shape.num_ranks >= 8 && rng.Chance(0.5)) {
    problem.dead_ranks.assign(num_ranks, false);
    for (uint64_t i = rng.Below(3); i > 0; --i) problem.dead_ranks[rng.Below(num_ranks)] = true;
  } else if (problem.shape.num_ranks < 4) {
    problem.shape.slots_per_rank = 9;
    for (Placement& placement : problem.current) placement = RandomPlacement(problem.shape, rng);
  }
  if (rng.Chance(0.5)) {
    for (int i = 0; i < 4; ++i) {
      const Pin pin{LayerId(static_cast<int>(rng.Below(3))), ExpertId(static_cast<int>(rng.Below(4))),
                    RankId(static_cast<int>(rng.Below(num_ranks)))};
      if (problem.IsLive(pin.rank)) problem.pins.push_back(pin);
    }
    if (!ValidateRoomForPins(problem).ok()) problem.pins.clear();
  }
  if (rng.Chance(0.5)) {
    for (int layer = 0; layer < 3; ++layer) problem.moves_max.push_back(static_cast<int>(rng.Below(12)));
  }
  if (rng.Chance(0.3)) {
    for (uint64_t i = 0; i < num_ranks; ++i) problem.capacities.push_back(rng.Chance(0.3) ? 2.0 : 1.0);
  }
  if (rng.Chance(0.3)) problem.layers = {LayerId(0), LayerId(2)};
  if (rng.Chance(0.4)) {
    problem.survive = {.ranks = static_cast<int>(rng.Below(3)), .hosts = static_cast<int>(rng.Below(2))};
  }
  return problem;
}

PolicyConfig ConfigFor(const Problem& problem, uint64_t seed) {
  Rng rng(seed);
  PolicyConfig config;
  for (int layer = 0; layer < problem.num_layers; ++layer) {
    config.placements.push_back(RandomPlacement(problem.shape, rng));
  }
  return config;
}

bool Holds(const Problem& problem, const Placement& placement, RankId rank, ExpertId expert) {
  for (int i = 0; i < problem.shape.slots_per_rank; ++i) {
    if (placement.expert_of_slot[problem.shape.SlotAt(rank, i).idx()] == expert) return true;
  }
  return false;
}

// What is needed in any case: from the living part of the current placement to one that holds everything, and from
// there to one that is as protected as can be without any expert losing protection.
Placement NeededPlacement(const Problem& problem, LayerId layer) {
  const Load total = TotalLoad(problem);
  LayerCosts costs(problem, total.layer(layer));
  Placement start = problem.current[layer.idx()];
  BlankDeadRanks(problem, start);
  costs.Reset(start);
  RepairLayer(problem, layer, costs);
  SecureLayer(problem, layer, {.may_take_from_colder = false}, costs);
  return costs.placement();
}

void CheckObeyed(const Problem& problem, const std::vector<LayerPlan>& plans) {
  REQUIRE(plans.size() == 3);
  for (LayerId layer : PlannedLayers(problem)) {
    CAPTURE(layer.value());
    const LayerPlan& plan = plans[layer.idx()];
    REQUIRE(Validate(plan.placement, problem.shape).ok());
    for (int s = 0; s < problem.shape.num_slots(); ++s) {
      if (problem.IsLive(problem.shape.RankOf(SlotIdx(s)))) continue;
      CHECK(plan.placement.expert_of_slot[static_cast<size_t>(s)] == kNoExpert);
    }
    for (const Pin& pin : problem.pins) {
      if (pin.layer == layer) CHECK(Holds(problem, plan.placement, pin.rank, pin.expert));
    }
    if (!problem.moves_max.empty()) {
      const int moves = CountMoves(problem.shape, problem.current[layer.idx()], plan.placement);
      const Placement needed = NeededPlacement(problem, layer);
      // With survival asked for, policies may differ in whom they protect first, and by that in moves.
      if (!problem.survive.any()) {
        CHECK(moves <=
              std::max(problem.MovesMax(layer), CountMoves(problem.shape, problem.current[layer.idx()], needed)));
      }
    }
    const size_t num_replicas = Invert(plan.placement, problem.shape.num_experts).slots.size();
    CHECK((plan.shares.empty() || plan.shares.size() == num_replicas));
  }
  const std::vector<LayerId> planned = PlannedLayers(problem);
  for (int layer = 0; layer < problem.num_layers; ++layer) {
    if (std::ranges::find(planned, LayerId(layer)) != planned.end()) continue;
    CHECK(plans[static_cast<size_t>(layer)].placement == problem.current[static_cast<size_t>(layer)]);
  }
}

// Whether the experts of each group are on one node.
bool KeepsGroupsOnNodes(const Problem& problem, const Placement& placement) {
  const int group_size = problem.shape.num_experts / problem.num_expert_groups;
  const int slots_per_node = problem.shape.num_slots() / problem.num_nodes;
  std::map<int, std::set<int>> nodes_of;
  for (int s = 0; s < problem.shape.num_slots(); ++s) {
    const ExpertId expert = placement.expert_of_slot[static_cast<size_t>(s)];
    if (expert.valid()) nodes_of[expert.value() / group_size].insert(s / slots_per_node);
  }
  return std::ranges::all_of(nodes_of, [](const auto& group) { return group.second.size() == 1; });
}

// DeepSeek's, as if there were no nodes: a policy that knows none of the constraints.
absl::StatusOr<std::vector<LayerPlan>> FlatPolicy(const Problem& problem, const PolicyConfig& config) {
  Problem flat = problem;
  flat.num_nodes = flat.num_expert_groups = 1;
  return DeepseekPolicy(flat, config);
}

// The same, for eight ranks alone.
absl::StatusOr<std::vector<LayerPlan>> EightRanksPolicy(const Problem& problem, const PolicyConfig& config) {
  if (problem.shape.num_ranks != 8) return absl::InvalidArgumentError("eight ranks");
  return FlatPolicy(problem, config);
}

constexpr uint64_t kSeeds = 60;

TEST_CASE("every policy obeys dead ranks, pins and budgets, keeps every expert, and repeats itself", "[constraints]") {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    const Problem problem = ConstrainedProblem(rng);
    const PolicyConfig config = ConfigFor(problem, seed);
    for (const NamedPolicy& policy : AllPolicies()) {
      CAPTURE(std::string(policy.name));
      const auto plans = policy.plan(problem, config);
      CAPTURE(plans.status().ToString());
      REQUIRE(plans.ok());
      CheckObeyed(problem, *plans);
      CHECK(*policy.plan(problem, config) == *plans);
    }
  }
}

TEST_CASE("each layer has moves of its own, and what others have is nothing to it", "[constraints]") {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    Problem problem = RandomProblem(rng, 1, 4, 4, 12);
    const PolicyConfig config = ConfigFor(problem, seed);
    for (const NamedPolicy& policy : AllPolicies()) {
      CAPTURE(std::string(policy.name));
      problem.moves_max = {0, 6, 2};
      const auto plans = policy.plan(problem, config);
      REQUIRE(plans.ok());
      for (LayerId layer : PlannedLayers(problem)) {
        const Placement& placement = (*plans)[layer.idx()].placement;
        CHECK(CountMoves(problem.shape, problem.current[layer.idx()], placement) <= problem.MovesMax(layer));
      }
      problem.moves_max = {0, 6, 9};
      const auto more = policy.plan(problem, config);
      REQUIRE(more.ok());
      CHECK((*more)[1] == (*plans)[1]);
    }
  }
}

TEST_CASE("every policy survives what there are just slots enough for", "[constraints]") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    Problem problem = RandomProblem(rng, 4, 2, 4, 16);
    if (rng.Chance(0.5)) problem.current.clear();
    if (rng.Chance(0.5)) problem.pins = {{LayerId(1), ExpertId(5), RankId(3)}};
    if (rng.Chance(0.5)) {
      problem.survive.hosts = 1;
    } else {
      problem.survive.ranks = 1;
    }
    for (const NamedPolicy& policy : AllPolicies()) {
      if (problem.current.empty() && policy.name == "swift") continue;
      CAPTURE(std::string(policy.name));
      const auto plans = policy.plan(problem, ConfigFor(problem, seed));
      REQUIRE(plans.ok());
      for (const LayerPlan& plan : *plans) {
        const Survivability found = SurvivabilityOf(plan.placement, problem.shape, HostOfRank(problem));
        CHECK((problem.survive.hosts == 1 ? found.hosts : found.ranks).serving >= 1);
      }
    }
  }
}

TEST_CASE("survival goes before the budget, and the budget before everything else", "[constraints]") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    Problem problem = RandomProblem(rng, 1, 8, 4, 16);
    problem.moves_max.assign(3, 0);
    problem.survive.ranks = 1;
    for (const char* policy : {"greedy", "deepseek", "flex"}) {
      CAPTURE(policy);
      const auto plans = PlanBy(policy, problem);
      REQUIRE(plans.ok());
      for (LayerId layer : PlannedLayers(problem)) {
        const Placement& placement = (*plans)[layer.idx()].placement;
        CHECK(SurvivabilityOf(placement, problem.shape, HostOfRank(problem)).ranks.serving >= 1);
        // Whoever is protected keeps it: of 16 experts each that lacks a second rank costs one move, two where replicas
        // must make room for each other.
        int lacking = 0;
        for (int level : Protection(problem).LevelsOf(problem.current[layer.idx()])) lacking += level < 1 ? 1 : 0;
        const int moves = CountMoves(problem.shape, problem.current[layer.idx()], placement);
        CHECK(moves >= lacking);
        CHECK(moves <= 2 * lacking);
      }
      problem.current = PlacementsOf(*plans);
      CHECK(PlacementsOf(*PlanBy(policy, problem)) == problem.current);
    }
  }
}

TEST_CASE("within a budget no expert loses protection", "[constraints]") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    Problem problem = RandomProblem(rng, 2, 4, 3, 16);  // 8 slots beyond one for each expert
    for (int layer = 0; layer < 3; ++layer) problem.moves_max.push_back(static_cast<int>(rng.Below(8)));
    problem.survive = {.ranks = 1, .hosts = static_cast<int>(rng.Below(2))};
    const Protection protection(problem);
    for (const char* policy : {"greedy", "deepseek", "flex"}) {
      CAPTURE(policy);
      const auto plans = PlanBy(policy, problem);
      REQUIRE(plans.ok());
      for (LayerId layer : PlannedLayers(problem)) {
        const int moves = CountMoves(problem.shape, problem.current[layer.idx()], (*plans)[layer.idx()].placement);
        if (moves > problem.MovesMax(layer) || policy == std::string("flex")) {
          const auto before = protection.LevelsOf(problem.current[layer.idx()]);
          const auto after = protection.LevelsOf((*plans)[layer.idx()].placement);
          CHECK(std::ranges::equal(after, before, std::greater_equal<>()));
        }
      }
    }
  }
}

TEST_CASE("a policy that knows no constraint is made to obey them all", "[constraints]") {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    Problem problem = ConstrainedProblem(rng);
    const auto plans = PlanWithin(FlatPolicy, {}, problem, {});
    REQUIRE(plans.ok());
    CheckObeyed(problem, *plans);
  }
}

TEST_CASE("a result is passed on as it is where nothing constrains it", "[constraints]") {
  Rng rng(7);
  Problem problem = RandomProblem(rng, 2, 4, 3, 16);
  problem.dead_ranks.assign(8, false);
  problem.capacities.assign(8, 3.0);
  CHECK(*PlanWithin(DeepseekPolicy, {}, problem, {}) == *DeepseekPolicy(problem, {}));
  problem.num_expert_groups = 4;
  CHECK(*PlanBy("deepseek", problem) == *DeepseekPolicy(problem, {}));
  problem.pins = {{LayerId(1), ExpertId(0), RankId(0)}};
  CHECK((*PlanBy("deepseek", problem))[0] == (*DeepseekPolicy(problem, {}))[0]);
}

TEST_CASE("the living ranks are planned as a group of their own", "[constraints]") {
  Rng rng(3);
  Problem problem = RandomProblem(rng, 2, 4, 3, 12);
  problem.num_expert_groups = 4;
  problem.dead_ranks = {false, true, false, false, true, false, false, false};
  const Part part = LivingRanks(problem);
  CHECK(part.num_nodes == 2);
  const auto mine = *DeepseekPolicy(PartOf(problem, part), {});
  const auto plans = *PlanBy("deepseek", problem);
  for (size_t layer = 0; layer < 3; ++layer) {
    for (size_t i = 0; i < part.ranks.size() * 3; ++i) {
      const SlotIdx slot = problem.shape.SlotAt(part.ranks[i / 3], static_cast<int>(i % 3));
      CHECK(plans[layer].placement.expert_of_slot[slot.idx()] == mine[layer].placement.expert_of_slot[i]);
    }
  }
  problem.dead_ranks[5] = true;  // two ranks on one node, three on the other
  CHECK(LivingRanks(problem).num_nodes == 1);
  CheckObeyed(problem, *PlanBy("deepseek", problem));
}

TEST_CASE("what a policy that refuses the living ranks plans for dead ones is left out", "[constraints]") {
  Rng rng(4);
  Problem problem = RandomProblem(rng, 2, 4, 3, 16);
  problem.dead_ranks = {false, true, false, false, false, true, false, false};
  const auto plans = PlanWithin(EightRanksPolicy, {}, problem, {});
  REQUIRE(plans.ok());
  CheckObeyed(problem, *plans);
  const auto refused = PlanWithin(EightRanksPolicy, {}, problem, {.options = {{"magic", 1}}});
  CHECK(refused.status().message().find("'magic'") != absl::string_view::npos);
}

TEST_CASE("a policy without nodes keeps groups on nodes, and nodes their groups while they are even", "[constraints]") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    Problem problem = RandomProblem(rng, 4, 2, 3, 16);
    problem.num_expert_groups = 8;
    const auto plans = *PlanWithin(FlatPolicy, {}, problem, {});
    for (const LayerPlan& plan : plans) CHECK(KeepsGroupsOnNodes(problem, plan.placement));
    problem.current = PlacementsOf(plans);
    const auto again = *PlanWithin(FlatPolicy, {}, problem, {});
    CHECK(again == plans);
  }
}

TEST_CASE("every policy but one from a file keeps groups on nodes", "[constraints]") {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    Problem problem = RandomProblem(rng, 4, 2, 3, 16);
    problem.num_expert_groups = 8;
    problem.current.clear();
    for (const NamedPolicy& policy : AllPolicies()) {
      if (policy.name == "static") continue;
      CAPTURE(std::string(policy.name));
      const auto plans = policy.plan(problem, {});
      REQUIRE(plans.ok());
      for (const LayerPlan& plan : *plans) {
        CHECK(Validate(plan.placement, problem.shape).ok());
        CHECK(KeepsGroupsOnNodes(problem, plan.placement));
      }
    }
  }
}

TEST_CASE("a rank twice as fast gets more, whoever plans", "[constraints]") {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    Problem problem = RandomProblem(rng, 1, 8, 4, 24);
    const auto even = *FlatPolicy(problem, {});
    problem.capacities = {1, 1, 2, 1, 1, 1, 1, 1};
    const auto plans = *PlanWithin(FlatPolicy, {}, problem, {});
    const Load total = TotalLoad(problem);
    for (LayerId layer : PlannedLayers(problem)) {
      const auto tokens = total.layer(layer);
      LayerCosts costs(problem, tokens);
      costs.Reset(even[layer.idx()].placement);
      const double before = costs.Now().max;
      costs.Reset(plans[layer.idx()].placement);
      CHECK(costs.Now().max < before);
      CHECK(EvenRankLoads(plans[layer.idx()].placement, problem.shape, tokens)[2] >
            EvenRankLoads(even[layer.idx()].placement, problem.shape, tokens)[2]);
    }
  }
}

}  // namespace
}  // namespace evenkeel::algos
