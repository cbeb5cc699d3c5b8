// SPDX-License-Identifier: Apache-2.0
#include "controller/core/pricing.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "algos/moves.h"
#include "algos/trigger.h"
#include "controller/core/targets.h"

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

double TokensPerSecond(std::span<const uint64_t> tokens, size_t num_episodes, absl::Duration window) {
  double sum = 0;
  for (uint64_t count : tokens) sum += static_cast<double>(count);
  return sum / (static_cast<double>(num_episodes) * absl::ToDoubleSeconds(window));
}

}  // namespace

std::vector<LayerVerdict> PriceOf(const algos::Problem& problem, const std::vector<algos::LayerPlan>& planned,
                                  const GroupInfo& info, const GroupSettings& settings, const SlotTable& slots,
                                  FastLoop& fast_loop, PriceRules rules) {
  const algos::TriggerOptions options{.min_gain = settings.placement_min_gain,
                                      .horizon = settings.placement_horizon,
                                      .link_bytes_per_second = settings.link_bytes_per_second};
  const algos::Load load = algos::TotalLoad(problem);
  std::vector<LayerVerdict> verdicts;
  for (LayerId layer : algos::PlannedLayers(problem)) {
    LayerVerdict verdict;
    verdict.layer = layer;
    verdict.target = WithoutCondemned(planned[layer.idx()].placement, layer, slots);
    const algos::Placement& current = problem.current[layer.idx()];
    const auto tokens = load.layer(layer);
    verdict.num_moves = algos::CountMoves(problem.shape, current, verdict.target);
    verdict.imbalance_before = fast_loop.Choose(current, nullptr, tokens).imbalance;
    verdict.imbalance_after = fast_loop.Choose(verdict.target, nullptr, tokens).imbalance;
    const int received = MostReceived(problem.shape, current, verdict.target);
    if (const absl::Status conflict = CheckConflicts(verdict.target, layer, slots); !conflict.ok()) {
      verdict.reason = std::string(conflict.message());
    } else if (rules.force) {
      verdict.act = verdict.num_moves > 0;
      verdict.reason = verdict.act ? "asked for" : absl::StrCat("layer ", layer.value(), ": placed so already");
    } else if (!fast_loop.HasEnough(tokens)) {
      verdict.reason = absl::StrCat("layer ", layer.value(), ": too little load to judge by");
    } else {
      const algos::LayerDecision decision =
          algos::DecideLayer({.layer = layer,
                              .imbalance_now = verdict.imbalance_before,
                              .imbalance_planned = verdict.imbalance_after,
                              .tokens_per_second = TokensPerSecond(tokens, problem.episodes.size(), settings.window),
                              .num_ranks = problem.shape.num_ranks,
                              .num_moves = verdict.num_moves,
                              .link_bytes = static_cast<uint64_t>(received) * info.expert_bytes},
                             options);
      verdict.act = decision.act && verdict.num_moves > 0;
      verdict.reason = decision.reason;
    }
    verdicts.push_back(std::move(verdict));
  }
  return verdicts;
}

std::string Summarise(const std::vector<LayerVerdict>& verdicts) {
  long acting = 0, moves = 0;
  std::string against;
  for (const LayerVerdict& verdict : verdicts) {
    if (verdict.act) {
      ++acting;
      moves += verdict.num_moves;
    } else if (against.empty()) {
      against = verdict.reason;
    }
  }
  std::string text = absl::StrCat(acting, " of ", verdicts.size(), " layers, ", moves, " moves");
  if (!against.empty()) absl::StrAppend(&text, "; ", against);
  return text;
}

}  // namespace evenkeel::controller
