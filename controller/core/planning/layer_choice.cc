// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/layer_choice.h"

#include <algorithm>
#include <climits>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "algos/base/hash.h"

namespace evenkeel::controller {

namespace {

constexpr double kBudgetWindows = 100;

double MovesSpent(const LayerMemory& memory, const PlanningSettings& settings, int64_t window) {
  const double regained =
      static_cast<double>(window - memory.counted) * settings.layer_moves_per_100_windows / kBudgetWindows;
  return std::max(memory.moves_spent - regained, 0.0);
}

LayerDecision Skip(const LayerOutline& layer, DecisionReason why, std::string reason) {
  return {.layer = layer.layer,
          .act = false,
          .why = why,
          .reason = absl::StrCat("layer ", layer.layer.value(), " is not planned: ", std::move(reason)),
          .imbalance_before = layer.imbalance};
}

void TakeBack(LayerDecision& decision, DecisionReason why, std::string reason) {
  decision.act = false;
  decision.why = why;
  decision.reason = absl::StrCat("layer ", decision.layer.value(), ": ", std::move(reason));
}

}  // namespace

uint64_t HoldingsOf(const algos::Placement& placement, const algos::Shape& shape) {
  Digest digest;
  std::vector<ExpertId> held(static_cast<size_t>(shape.slots_per_rank));
  for (int r = 0; r < shape.num_ranks; ++r) {
    for (int s = 0; s < shape.slots_per_rank; ++s) {
      held[static_cast<size_t>(s)] = placement.expert_of_slot[shape.SlotAt(RankId(r), s).idx()];
    }
    std::ranges::sort(held);
    for (ExpertId expert : held) digest.Add(static_cast<uint64_t>(expert.value() + 1));
  }
  return digest.value();
}

double FluctuationOf(std::span<const uint64_t> before, std::span<const uint64_t> now) {
  double product = 0, squares_before = 0, squares_now = 0;
  for (size_t e = 0; e < std::min(before.size(), now.size()); ++e) {
    const double b = static_cast<double>(before[e]), n = static_cast<double>(now[e]);
    product += b * n;
    squares_before += b * b;
    squares_now += n * n;
  }
  if (squares_before == 0 && squares_now == 0) return 0;
  if (squares_before == 0 || squares_now == 0) return 1;
  return std::clamp(1 - product / (std::sqrt(squares_before) * std::sqrt(squares_now)), 0.0, 1.0);
}

int MovesLeft(const LayerMemory& memory, const PlanningSettings& settings, int64_t window) {
  if (settings.layer_moves_per_100_windows <= 0) return INT_MAX;
  const double left = settings.layer_moves_per_100_windows - MovesSpent(memory, settings, window);
  // A hair's breadth for what sums of fractions leave out.
  return static_cast<int>(std::max(std::floor(left + 1e-9), 0.0));
}

std::optional<LayerDecision> ReasonNotToPlan(const LayerOutline& layer, const LayerMemory& memory,
                                             const PlanningSettings& settings, int64_t window) {
  if (MovesLeft(memory, settings, window) < 1) {
    return Skip(layer, DecisionReason::kNoMovesLeft,
                absl::StrFormat("its %g moves of 100 windows are spent", settings.layer_moves_per_100_windows));
  }
  if (layer.imbalance > 0 && layer.imbalance < settings.layer_imbalance_min) {
    return Skip(layer, DecisionReason::kBalanced,
                absl::StrFormat("its imbalance, %.3f, is below %.3f", layer.imbalance, settings.layer_imbalance_min));
  }
  if (memory.tokens.empty() || memory.holdings != layer.holdings) return std::nullopt;
  if (settings.layer_rest_windows > 0 && memory.rearranged.has_value() &&
      window - *memory.rearranged < settings.layer_rest_windows &&
      layer.imbalance <= memory.promised + settings.layer_rest_rise) {
    return Skip(
        layer, DecisionReason::kResting,
        absl::StrFormat("rearranged %d windows ago, it rests for %d; imbalance %.3f, promised %.3f",
                        window - *memory.rearranged, settings.layer_rest_windows, layer.imbalance, memory.promised));
  }
  if (settings.min_fluctuation > 0) {
    const double moved = FluctuationOf(memory.tokens, layer.tokens);
    if (moved < settings.min_fluctuation) {
      return Skip(layer, DecisionReason::kSteady,
                  absl::StrFormat("its load moved by %.4f since the last decision, less than %.4f", moved,
                                  settings.min_fluctuation));
    }
  }
  return std::nullopt;
}

void KeepWithinBudgets(std::span<PricedLayer> layers, std::span<const LayerMemory> memories,
                       const PlanningSettings& settings, int64_t window) {
  std::vector<PricedLayer*> acting;
  for (PricedLayer& layer : layers) {
    LayerDecision& decision = layer.decision;
    if (!decision.act) continue;
    if (layer.protects) {
      acting.push_back(&layer);
      continue;
    }
    const int left = MovesLeft(memories[decision.layer.idx()], settings, window);
    if (decision.num_moves > left) {
      TakeBack(decision, DecisionReason::kNoMovesLeft,
               absl::StrFormat("it needs %d moves and has %d left of its %g of 100 windows", decision.num_moves, left,
                               settings.layer_moves_per_100_windows));
    } else if (settings.moves_per_layer_max > 0 && decision.num_moves > settings.moves_per_layer_max) {
      TakeBack(decision, DecisionReason::kNoMovesLeft,
               absl::StrCat("it needs ", decision.num_moves, " moves; a plan may move ", settings.moves_per_layer_max,
                            " of a layer"));
    } else {
      acting.push_back(&layer);
    }
  }
  std::ranges::stable_sort(acting, std::ranges::greater(), [](const PricedLayer* layer) {
    return std::pair(layer->protects, layer->decision.gain_tokens);
  });
  int num_taken = 0;
  uint64_t bytes = 0;
  for (PricedLayer* layer : acting) {
    if (settings.layers_max > 0 && num_taken >= settings.layers_max) {
      TakeBack(layer->decision, DecisionReason::kBehind,
               absl::StrCat(settings.layers_max, " layers of greater gain are rearranged first"));
    } else if (settings.bytes_per_plan_max > 0 && bytes + layer->bytes > settings.bytes_per_plan_max) {
      TakeBack(layer->decision, DecisionReason::kBehind,
               absl::StrCat("its ", layer->bytes, " bytes and ", bytes, " of layers of greater gain exceed the ",
                            settings.bytes_per_plan_max, " of a plan"));
    } else {
      ++num_taken;
      bytes += layer->bytes;
    }
  }
}

void Remember(const LayerDecision& decision, std::span<const uint64_t> tokens, uint64_t holdings,
              const PlanningSettings& settings, int64_t window, LayerMemory& memory) {
  switch (decision.why) {
    case DecisionReason::kActs:
      memory.rearranged = window;
      memory.promised = decision.imbalance_after;
      memory.moves_spent =
          settings.layer_moves_per_100_windows > 0 ? MovesSpent(memory, settings, window) + decision.num_moves : 0.0;
      memory.counted = window;
      break;
    case DecisionReason::kStays:
    case DecisionReason::kSmallGain:
    case DecisionReason::kDoesNotPay:
      break;
    case DecisionReason::kBalanced:
    case DecisionReason::kSteady:
    case DecisionReason::kResting:
    case DecisionReason::kNoMovesLeft:
    case DecisionReason::kTooLittleLoad:
    case DecisionReason::kConflict:
    case DecisionReason::kBehind:
    case DecisionReason::kFrozen:
      return;
  }
  memory.tokens.assign(tokens.begin(), tokens.end());
  memory.holdings = holdings;
}

}  // namespace evenkeel::controller
