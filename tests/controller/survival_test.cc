// SPDX-License-Identifier: Apache-2.0
#include "controller/core/ranks/survival.h"

#include <algorithm>
#include <string>

#include "catch2/catch.hpp"

#include "algos/policies/repair/protection.h"
#include "controller/core/planning/layer_choice.h"
#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

Cluster::Options Surviving(int slots_per_rank, int ranks) {
  Cluster::Options options;
  options.shape.slots_per_rank = slots_per_rank;
  options.settings.defaults.planning.survive.ranks = ranks;
  return options;
}

// Each of two experts on both ranks of one node.
algos::Problem Crowded() {
  algos::Problem problem;
  problem.shape = {.num_experts = 2, .num_ranks = 4, .slots_per_rank = 1};
  problem.num_layers = 1;
  problem.num_nodes = 2;
  problem.survive.hosts = 1;
  algos::Placement placement;
  for (int expert : {0, 0, 1, 1}) placement.expert_of_slot.push_back(ExpertId(expert));
  problem.current = {placement};
  return problem;
}

bool AnyContains(const std::vector<std::string>& texts, const std::string& part) {
  return std::ranges::any_of(texts, [&](const std::string& text) { return text.find(part) != std::string::npos; });
}

bool AnyContains(const std::vector<Alert>& alerts, const std::string& part) {
  return std::ranges::any_of(alerts, [&](const Alert& alert) { return alert.text.find(part) != std::string::npos; });
}

}  // namespace

TEST_CASE("what is out of reach is an alert as the group forms, and names who is at risk", "[survival]") {
  Cluster cluster(Surviving(3, 1));  // 12 slots for 8 experts
  Start(cluster);
  CHECK(AnyContains(cluster.Status().alerts, "asked to survive the loss of any 1 rank, which takes 8 slots beyond"));
  const RedundancyReport report = *cluster.coordinator->CheckRedundancy(kGroup);
  CHECK(report.ranks_may_be_lost_at_once == 0);
  CHECK(report.survive_asked.ranks == 1);
  CHECK(report.layers[0].experts_at_risk.size() == 4);
  CHECK(AnyContains(report.problems, "2 of 2 layers do not"));
}

TEST_CASE("what a group is to survive takes free slots, and leaves what may be lost as it is", "[survival]") {
  const auto [slots_per_rank, asked, free] =
      GENERATE(table<int, int, int>({{3, 0, 4}, {3, 1, -4}, {4, 1, 0}, {4, 9, -16}}));
  CAPTURE(slots_per_rank, asked);
  Cluster cluster(Surviving(slots_per_rank, asked));
  Start(cluster);
  const RedundancyReport report = *cluster.coordinator->CheckRedundancy(kGroup);
  CHECK(report.layers[0].free_redundancy == free);  // of 4 ranks with 8 experts
  CHECK(report.ranks_may_be_lost_serving == (slots_per_rank == 3 ? 1 : 2));
  CHECK(report.ranks_may_be_lost_rebalancing == 1);
  CHECK_FALSE(AnyContains(report.problems, "only its shares can change"));  // replicas may still trade places
}

TEST_CASE("load takes no protection that is asked for", "[survival]") {
  const auto [policy, asked] = GENERATE(table<std::string, int>({{"greedy", 0}, {"greedy", 1}, {"flex", 1}}));
  CAPTURE(policy, asked);
  Cluster::Options options = Surviving(4, asked);
  options.settings.defaults.policy = policy;
  options.settings.defaults.placement_interval = absl::Seconds(5);
  options.settings.defaults.num_windows_for_placement = 5;
  Cluster cluster(options);
  StartUnderLoad(cluster);
  cluster.Run(absl::Seconds(60));
  const RedundancyReport report = *cluster.coordinator->CheckRedundancy(kGroup);
  CHECK(report.ranks_may_be_lost_at_once == asked);
  CHECK(report.layers[0].ranks_may_be_lost_at_once == asked);
  CHECK(report.hosts_may_be_lost_at_once == 0);  // all are on one
  // flex finds nothing better among what protects and stays.
  CHECK((policy == "flex" || cluster.Status().totals.rollouts > 0));
}

TEST_CASE("a plan that protects more is owed and goes before budgets, one that protects less does not", "[survival]") {
  const algos::Problem problem = Crowded();
  CHECK(OwesProtection(problem, LayerId(0)));
  algos::Placement apart = problem.current[0];
  std::swap(apart.expert_of_slot[1], apart.expert_of_slot[2]);
  CHECK(NumProtectedMore(problem, LayerId(0), apart) == 2);
  algos::Problem settled = problem;
  settled.current = {apart};
  CHECK_FALSE(OwesProtection(settled, LayerId(0)));
  CHECK(NumProtectedMore(settled, LayerId(0), problem.current[0]) == 0);

  LayerDecision act{.layer = LayerId(0), .act = true, .why = DecisionReason::kActs, .num_moves = 5};
  std::vector<PricedLayer> layers = {{act, 10, false}, {act, 10, true}};
  layers[0].decision.gain_tokens = 1e9;
  layers[1].decision.layer = LayerId(1);
  const std::vector<LayerMemory> memories(2);
  PlanningSettings planning;
  planning.layers_max = 1;
  planning.moves_per_layer_max = 4;
  KeepWithinBudgets(layers, memories, planning, 0);
  CHECK_FALSE(layers[0].decision.act);
  CHECK(layers[1].decision.act);
}

}  // namespace evenkeel::controller
