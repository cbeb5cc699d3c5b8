// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>
#include <vector>

#include "algos/policies/registry.h"
#include "algos/policies/repair/repair.h"

namespace evenkeel::algos {
namespace {

TEST_CASE("pins take blank slots first and lose no expert", "[pins]") {
  Problem problem{.shape = {.num_experts = 4, .num_ranks = 2, .slots_per_rank = 3}, .num_layers = 1};
  problem.episodes = {{.num_layers = 1, .num_experts = 4, .tokens = {8, 4, 2, 1}}};
  problem.pins = {{LayerId(0), ExpertId(0), RankId(1)}};
  LayerCosts costs(problem, problem.episodes[0].layer(LayerId(0)));
  const auto after_repair = [&](std::vector<int> experts) {
    Placement placement;
    for (int e : experts) placement.expert_of_slot.push_back(ExpertId(e));
    costs.Reset(placement);
    RepairLayer(problem, LayerId(0), costs);
    std::vector<int> repaired;
    for (ExpertId expert : costs.placement().expert_of_slot) repaired.push_back(expert.value());
    return repaired;
  };
  CHECK(after_repair({0, 1, -1, 2, 3, -1}) == std::vector<int>{0, 1, -1, 2, 3, 0});
  // The replica of 2 goes, for 8 and 7 tokens; without that of 1 it were 9 and 6.
  CHECK(after_repair({0, 1, 2, 3, 2, 1}) == std::vector<int>{0, 1, 2, 3, 0, 1});
  // Missing experts are placed too.
  CHECK(after_repair({-1, -1, -1, -1, 3, 3}) == std::vector<int>{1, 2, -1, 0, 3, 3});
}

TEST_CASE("pins change places with their own replica, or send a third expert away, where nothing is spare", "[pins]") {
  Problem problem{.shape = {.num_experts = 4, .num_ranks = 2, .slots_per_rank = 2}, .num_layers = 1};
  problem.episodes = {{.num_layers = 1, .num_experts = 4, .tokens = {8, 4, 2, 1}}};
  problem.pins = {{LayerId(0), ExpertId(0), RankId(1)}};
  LayerCosts costs(problem, problem.episodes[0].layer(LayerId(0)));
  Placement placement;
  for (int e : {0, 3, 1, 2}) placement.expert_of_slot.push_back(ExpertId(e));
  costs.Reset(placement);
  RepairLayer(problem, LayerId(0), costs);
  // For 1 it gives 5 and 10 tokens, for 2 it were 3 and 12.
  CHECK(costs.expert(SlotIdx(0)) == ExpertId(1));
  CHECK(costs.expert(SlotIdx(2)) == ExpertId(0));

  Problem three{.shape = {.num_experts = 5, .num_ranks = 3, .slots_per_rank = 2}, .num_layers = 1};
  three.episodes = {{.num_layers = 1, .num_experts = 5, .tokens = {8, 4, 2, 1, 1}}};
  three.pins = {{LayerId(0), ExpertId(0), RankId(0)}, {LayerId(0), ExpertId(0), RankId(1)}};
  LayerCosts of_three(three, three.episodes[0].layer(LayerId(0)));
  placement.expert_of_slot.clear();
  for (int e : {0, 3, 1, 2, 4, 4}) placement.expert_of_slot.push_back(ExpertId(e));
  of_three.Reset(placement);
  RepairLayer(three, LayerId(0), of_three);
  CHECK(of_three.Holds(RankId(0), ExpertId(0)));
  CHECK(of_three.Holds(RankId(1), ExpertId(0)));
  CHECK(of_three.Holds(RankId(2), ExpertId(4)));
  CHECK(Validate(of_three.placement(), three.shape).ok());
}

TEST_CASE("pins that leave no room are refused", "[pins]") {
  Problem problem{.shape = {.num_experts = 4, .num_ranks = 2, .slots_per_rank = 2}, .num_layers = 1};
  problem.episodes = {{.num_layers = 1, .num_experts = 4, .tokens = {8, 4, 2, 1}}};
  for (int e : {0, 1, 2}) problem.pins.push_back({LayerId(0), ExpertId(e), RankId(0)});
  CHECK(PlanBy("greedy", problem).status().message() ==
        "problem: pins: layer 0 has more pins on rank 0 than its 2 slots");
  problem.pins = {{LayerId(0), ExpertId(0), RankId(0)}, {LayerId(0), ExpertId(0), RankId(1)}};
  CHECK(PlanBy("greedy", problem).status().message() ==
        "problem: pins: layer 0 needs 5 slots with its pins; the living ranks have 4");
}

}  // namespace
}  // namespace evenkeel::algos
