// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/pricing.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/moves.h"
#include "algos/trigger.h"
#include "controller/core/group_bytes.h"
#include "controller/core/ranks/survival.h"
#include "controller/core/rollout/targets.h"

namespace evenkeel::controller {

namespace {

// The most experts that one rank is to hold and does not.
int MostReceived(const algos::Shape& shape, const algos::Placement& current, const algos::Placement& target) {
  int most = 0;
  for (int r = 0; r < shape.num_ranks; ++r) {
    std::vector<ExpertId> held;
    int received = 0;
    for (int s = 0; s < shape.slots_per_rank; ++s) {
      held.push_back(current.expert_of_slot[shape.SlotAt(RankId(r), s).idx()]);
    }
    for (int s = 0; s < shape.slots_per_rank; ++s) {
      const ExpertId wanted = target.expert_of_slot[shape.SlotAt(RankId(r), s).idx()];
      if (!wanted.valid()) continue;
      const auto found = std::ranges::find(held, wanted);
      if (found == held.end()) {
        ++received;
      } else {
        held.erase(found);
      }
    }
    most = std::max(most, received);
  }
  return most;
}

double TokensPerSecond(std::span<const uint64_t> tokens, absl::Duration span) {
  double sum = 0;
  for (uint64_t count : tokens) sum += static_cast<double>(count);
  return sum / absl::ToDoubleSeconds(span);
}

void Judge(const algos::LayerOutlook& outlook, const algos::TriggerOptions& options, LayerDecision& decision) {
  const algos::LayerDecision judged = algos::DecideLayer(outlook, options);
  decision.act = judged.act;
  decision.reason = judged.reason;
  decision.gain_tokens = judged.gain_tokens;
  decision.price_tokens = judged.price_tokens;
  const double fall = outlook.imbalance_now - outlook.imbalance_planned;
  decision.why = judged.act                 ? DecisionReason::kActs
                 : outlook.num_moves == 0   ? DecisionReason::kStays
                 : fall >= options.min_gain ? DecisionReason::kDoesNotPay
                                            : DecisionReason::kSmallGain;
}

}  // namespace

std::vector<algos::Placement> TargetsOf(const algos::Problem& problem, const std::vector<algos::LayerPlan>& planned,
                                        const SlotTable& slots) {
  std::vector<algos::Placement> targets;
  for (LayerId layer : algos::PlannedLayers(problem)) {
    targets.push_back(WithoutDead(WithoutCondemned(planned[layer.idx()].placement, layer, slots),
                                  problem.current[layer.idx()], layer, slots));
  }
  return targets;
}

std::vector<PricedLayer> PriceOf(const algos::Problem& problem, std::span<const algos::Placement> targets,
                                 const GroupInfo& info, const GroupSettings& settings, const SlotTable& slots,
                                 FastLoop& fast_loop, PriceRules rules) {
  const algos::TriggerOptions options{.min_gain = settings.placement_min_gain,
                                      .horizon = settings.placement_horizon,
                                      .link_bytes_per_second = settings.link_bytes_per_second};
  const algos::Load load = algos::TotalLoad(problem);
  const std::vector<LayerId> layers = algos::PlannedLayers(problem);
  std::vector<PricedLayer> priced;
  for (size_t i = 0; i < layers.size(); ++i) {
    const LayerId layer = layers[i];
    const algos::Placement& target = targets[i];
    const algos::Placement& current = problem.current[layer.idx()];
    const auto tokens = load.layer(layer);
    LayerDecision decision;
    const int num_protected = NumProtectedMore(problem, layer, target);
    decision.layer = layer;
    decision.num_moves = algos::CountMoves(problem.shape, current, target);
    decision.imbalance_before = fast_loop.Choose(current, nullptr, tokens).level;
    decision.imbalance_after = fast_loop.Choose(target, nullptr, tokens).level;
    if (const absl::Status conflict = CheckConflicts(target, layer, slots); !conflict.ok()) {
      decision.why = DecisionReason::kConflict;
      decision.reason = std::string(conflict.message());
    } else if (rules.force) {
      decision.act = decision.num_moves > 0;
      decision.why = decision.act ? DecisionReason::kActs : DecisionReason::kStays;
      decision.reason = decision.act ? "asked for" : absl::StrCat("layer ", layer.value(), ": placed so already");
    } else if (num_protected > 0) {
      decision.act = true;
      decision.why = DecisionReason::kActs;
      decision.reason = absl::StrCat("lets ", num_protected, " experts survive more losses");
    } else if (!fast_loop.HasEnough(tokens)) {
      decision.why = DecisionReason::kTooLittleLoad;
      decision.reason = absl::StrCat("layer ", layer.value(), ": too little load to judge by");
    } else {
      const int received = MostReceived(problem.shape, current, target);
      Judge({.layer = layer,
             .imbalance_now = decision.imbalance_before,
             .imbalance_planned = decision.imbalance_after,
             .tokens_per_second = TokensPerSecond(tokens, rules.span),
             .num_ranks = problem.shape.num_ranks,
             .num_moves = decision.num_moves,
             .link_bytes = ExpertBytes(received, info)},
            options, decision);
    }
    const uint64_t bytes = static_cast<uint64_t>(decision.num_moves) * info.expert_bytes;
    priced.push_back({std::move(decision), bytes, num_protected > 0});
  }
  return priced;
}

std::string Summarise(std::span<const LayerDecision> decisions) {
  long acting = 0, moves = 0;
  long skipped[kNumDecisionReasons] = {};
  std::string against;
  for (const LayerDecision& decision : decisions) {
    if (decision.act) {
      ++acting;
      moves += decision.num_moves;
      continue;
    }
    ++skipped[static_cast<size_t>(decision.why)];
    if (against.empty()) against = decision.reason;
  }
  std::string text = absl::StrCat(acting, " of ", decisions.size(), " layers, ", moves, " moves");
  const char* separator = "; ";
  for (int reason = 1; reason < kNumDecisionReasons; ++reason) {
    if (skipped[reason] == 0) continue;
    absl::StrAppend(&text, std::exchange(separator, ", "), skipped[reason], " ",
                    NameOf(static_cast<DecisionReason>(reason)));
  }
  if (!against.empty()) absl::StrAppend(&text, "; ", against);
  return text;
}

}  // namespace evenkeel::controller
