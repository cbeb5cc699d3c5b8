// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/layer_choice.h"

#include <climits>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

namespace evenkeel::controller {
namespace {

using Tokens = std::vector<uint64_t>;

constexpr int64_t kWindow = 1000;

const Tokens kLoad = {100, 200, 300, 400};
// 1 - cosine with kLoad: 0.056.
const Tokens kMovedLoad = {300, 200, 300, 380};

PricedLayer Acting(int layer, double gain, int moves) {
  LayerDecision decision;
  decision.layer = LayerId(layer);
  decision.act = true;
  decision.why = DecisionReason::kActs;
  decision.gain_tokens = gain;
  decision.num_moves = moves;
  return {.decision = decision, .bytes = 100u * static_cast<uint64_t>(moves)};
}

std::vector<int> ActingLayers(const std::vector<PricedLayer>& layers) {
  std::vector<int> acting;
  for (const PricedLayer& layer : layers) {
    if (layer.decision.act) acting.push_back(layer.decision.layer.value());
  }
  return acting;
}

TEST_CASE("how far a load moved does not depend on how much there is of it", "[layer_choice]") {
  CHECK(FluctuationOf(kLoad, kLoad) == Approx(0).margin(1e-12));
  const Tokens tenfold = {1000, 2000, 3000, 4000};
  CHECK(FluctuationOf(kLoad, tenfold) == Approx(0).margin(1e-12));
  CHECK(FluctuationOf(Tokens{1, 0}, Tokens{0, 1}) == 1);
  CHECK(FluctuationOf(Tokens{1, 0}, Tokens{1, 1}) == Approx(1 - std::sqrt(0.5)));
  CHECK(FluctuationOf(Tokens{0, 0}, Tokens{0, 0}) == 0);
  CHECK(FluctuationOf(Tokens{0, 0}, Tokens{1, 0}) == 1);
  CHECK(FluctuationOf(Tokens{UINT64_MAX, 0}, Tokens{UINT64_MAX, 0}) == Approx(0).margin(1e-12));
}

TEST_CASE("holdings are what ranks hold, in whatever slots", "[layer_choice]") {
  const algos::Shape shape{.num_experts = 3, .num_ranks = 2, .slots_per_rank = 2};
  const auto placement = [](std::vector<int> experts) {
    algos::Placement placed;
    for (int e : experts) placed.expert_of_slot.push_back(ExpertId(e));
    return placed;
  };
  CHECK(HoldingsOf(placement({0, 1, 2, 0}), shape) == HoldingsOf(placement({1, 0, 0, 2}), shape));
  CHECK(HoldingsOf(placement({0, 1, 2, 0}), shape) != HoldingsOf(placement({2, 0, 0, 1}), shape));
  CHECK(HoldingsOf(placement({0, 1, 2, 0}), shape) != HoldingsOf(placement({0, 1, 2, -1}), shape));
  CHECK(HoldingsOf(placement({0, 1, 2, 2}), shape) != HoldingsOf(placement({0, 1, 2, -1}), shape));
}

TEST_CASE("layers that need no plan are left out, with the reason", "[layer_choice]") {
  struct Case {
    const char* name;
    PlanningSettings settings;
    LayerMemory memory;
    Tokens tokens;
    double imbalance = 1.5;
    uint64_t holdings = 7;
    std::optional<DecisionReason> why;
  };
  LayerMemory decided;
  decided.tokens = kLoad;
  decided.holdings = 7;
  LayerMemory rearranged = decided;
  rearranged.rearranged = kWindow - 10;
  rearranged.promised = 1.2;
  LayerMemory spent = decided;
  spent.moves_spent = 4.5;
  spent.counted = kWindow;
  LayerMemory regained = spent;
  regained.counted = kWindow - 10;  // 0.5 of its 5 moves a hundred windows
  PlanningSettings balanced, steady, resting, both, budget;
  balanced.layer_imbalance_min = 1.3;
  steady.min_fluctuation = 0.01;
  resting.layer_rest_windows = 20;
  resting.layer_rest_rise = 0.3;
  both.layer_rest_windows = 20;
  both.min_fluctuation = 0.01;
  budget.layer_moves_per_100_windows = 5;
  const std::vector<Case> cases = {
      {"nothing is configured", {}, rearranged, kLoad, 1.5, 7, std::nullopt},
      {"balanced enough", balanced, {}, kLoad, 1.299, 7, DecisionReason::kBalanced},
      {"not balanced enough", balanced, {}, kLoad, 1.3, 7, std::nullopt},
      {"balance not known", balanced, {}, kLoad, 0, 7, std::nullopt},
      {"never decided about", steady, {}, kLoad, 1.5, 7, std::nullopt},
      {"the same load", steady, decided, kLoad, 1.5, 7, DecisionReason::kSteady},
      {"another load", steady, decided, kMovedLoad, 1.5, 7, std::nullopt},
      {"the same load, but not what was to be held", steady, decided, kLoad, 1.5, 8, std::nullopt},
      {"rearranged a while ago", resting, rearranged, kMovedLoad, 1.5, 7, DecisionReason::kResting},
      {"much worse since", resting, rearranged, kMovedLoad, 1.51, 7, std::nullopt},
      {"the rearrangement failed", resting, rearranged, kMovedLoad, 1.5, 8, std::nullopt},
      {"decided against, not rearranged", resting, decided, kMovedLoad, 1.5, 7, std::nullopt},
      {"both", both, rearranged, kLoad, 1.2, 7, DecisionReason::kResting},
      {"steady though worse", both, rearranged, kLoad, 1.9, 7, DecisionReason::kSteady},
      {"moves spent", budget, spent, kMovedLoad, 1.5, 7, DecisionReason::kNoMovesLeft},
      {"moves regained", budget, regained, kMovedLoad, 1.5, 7, std::nullopt},
  };
  for (const Case& c : cases) {
    CAPTURE(c.name);
    const LayerOutline layer{.layer = LayerId(3), .tokens = c.tokens, .imbalance = c.imbalance, .holdings = c.holdings};
    const auto decision = ReasonNotToPlan(layer, c.memory, c.settings, kWindow);
    REQUIRE(decision.has_value() == c.why.has_value());
    if (!decision.has_value()) continue;
    CHECK(decision->why == *c.why);
    CHECK_FALSE(decision->act);
    CHECK(decision->layer == LayerId(3));
    CHECK(decision->imbalance_before == c.imbalance);
    CHECK(decision->reason.find("layer 3 is not planned: ") == 0);
  }
}

TEST_CASE("a rest ends after its windows", "[layer_choice]") {
  PlanningSettings settings;
  settings.layer_rest_windows = 20;
  LayerMemory memory;
  LayerDecision decision = Acting(0, 1, 2).decision;
  decision.imbalance_after = 1.1;
  Remember(decision, kLoad, 7, settings, kWindow, memory);
  const LayerOutline layer{.layer = LayerId(0), .tokens = kMovedLoad, .imbalance = 1.15, .holdings = 7};
  CHECK(ReasonNotToPlan(layer, memory, settings, kWindow + 19).has_value());
  CHECK_FALSE(ReasonNotToPlan(layer, memory, settings, kWindow + 20).has_value());
}

TEST_CASE("moves are saved up over a hundred windows and no longer", "[layer_choice]") {
  PlanningSettings settings;
  settings.layer_moves_per_100_windows = 0;
  LayerMemory memory;
  CHECK(MovesLeft(memory, settings, kWindow) == INT_MAX);
  settings.layer_moves_per_100_windows = 10;
  CHECK(MovesLeft(memory, settings, kWindow) == 10);
  Remember(Acting(0, 1, 8).decision, kLoad, 7, settings, kWindow, memory);
  CHECK(MovesLeft(memory, settings, kWindow) == 2);
  CHECK(MovesLeft(memory, settings, kWindow + 9) == 2);
  CHECK(MovesLeft(memory, settings, kWindow + 10) == 3);
  Remember(Acting(0, 1, 3).decision, kLoad, 7, settings, kWindow + 10, memory);
  CHECK(MovesLeft(memory, settings, kWindow + 10) == 0);
  CHECK(MovesLeft(memory, settings, kWindow + 110) == 10);
  CHECK(MovesLeft(memory, settings, kWindow + 10000) == 10);
  // An operator may move more than is left.
  Remember(Acting(0, 1, 30).decision, kLoad, 7, settings, kWindow + 110, memory);
  CHECK(MovesLeft(memory, settings, kWindow + 110) == 0);
  CHECK(MovesLeft(memory, settings, kWindow + 110 + 209) == 0);
  CHECK(MovesLeft(memory, settings, kWindow + 110 + 210) == 1);
}

TEST_CASE("the layers of the greatest gain are taken within the budgets", "[layer_choice]") {
  struct Case {
    const char* name;
    int layers_max, moves_per_layer_max;
    uint64_t bytes_max;
    std::vector<int> acting;
  };
  const std::vector<Case> cases = {
      {"no budget", 0, 0, 0, {0, 1, 2, 3}},
      {"two layers, the lower of equal ones", 2, 0, 0, {1, 2}},
      {"moves of a layer", 0, 3, 0, {0, 1, 3}},
      {"bytes: what does not fit is passed over", 0, 0, 700, {0, 1, 2}},
      {"bytes of the best alone", 0, 0, 200, {1}},
      {"too few bytes for any", 0, 0, 50, {}},
      {"all of them", 1, 3, 600, {1}},
  };
  for (const Case& c : cases) {
    CAPTURE(c.name);
    std::vector<PricedLayer> layers = {Acting(0, 5, 1), Acting(1, 9, 2), Acting(2, 7, 4), Acting(3, 7, 3)};
    PlanningSettings settings;
    settings.layers_max = c.layers_max;
    settings.moves_per_layer_max = c.moves_per_layer_max;
    settings.bytes_per_plan_max = c.bytes_max;
    KeepWithinBudgets(layers, std::vector<LayerMemory>(4), settings, kWindow);
    CHECK(ActingLayers(layers) == c.acting);
    for (const PricedLayer& layer : layers) {
      const DecisionReason why = layer.decision.why;
      CHECK((why == DecisionReason::kActs) == layer.decision.act);
      if (!layer.decision.act) CHECK((why == DecisionReason::kBehind || why == DecisionReason::kNoMovesLeft));
    }
  }
}

TEST_CASE("a layer whose plan needs more moves than it has left waits for them", "[layer_choice]") {
  PlanningSettings settings;
  settings.layer_moves_per_100_windows = 4;
  std::vector<LayerMemory> memories(2);
  memories[1].moves_spent = 2;
  memories[1].counted = kWindow;
  std::vector<PricedLayer> layers = {Acting(0, 1, 3), Acting(1, 2, 3)};
  KeepWithinBudgets(layers, memories, settings, kWindow);
  CHECK(ActingLayers(layers) == std::vector<int>{0});
  CHECK(layers[1].decision.why == DecisionReason::kNoMovesLeft);
  CHECK(layers[1].decision.reason == "layer 1: it needs 3 moves and has 2 left of its 4 of 100 windows");
}

TEST_CASE("only decisions about the placement are remembered", "[layer_choice]") {
  for (int w = 0; w < kNumDecisionReasons; ++w) {
    LayerDecision decision;
    decision.why = static_cast<DecisionReason>(w);
    decision.act = decision.why == DecisionReason::kActs;
    LayerMemory memory;
    Remember(decision, kLoad, 7, {}, kWindow, memory);
    CAPTURE(NameOf(decision.why));
    const bool about_placement = decision.act || decision.why == DecisionReason::kStays ||
                                 decision.why == DecisionReason::kSmallGain ||
                                 decision.why == DecisionReason::kDoesNotPay;
    CHECK((memory.tokens == kLoad) == about_placement);
    CHECK(memory.rearranged.has_value() == decision.act);
  }
}

}  // namespace
}  // namespace evenkeel::controller
