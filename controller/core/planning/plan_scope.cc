// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/plan_scope.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/load_windows.h"
#include "algos/policies/repair/part_problem.h"
#include "controller/core/planning/group_flex.h"
#include "controller/core/planning/layer_choice.h"
#include "controller/core/planning/load_book.h"
#include "controller/core/planning/pins_in_force.h"
#include "controller/core/ranks/survival.h"

namespace evenkeel::controller {

namespace {

algos::Load UniformLoad(const GroupInfo& info) {
  algos::Load load{.num_layers = info.num_layers, .num_experts = info.shape.num_experts};
  load.tokens.assign(static_cast<size_t>(info.num_layers) * static_cast<size_t>(info.shape.num_experts), 1);
  return load;
}

// What the tokens of `episodes` cost all ranks together, each expert with tokens being in use on one rank at least.
double CostOf(std::span<const algos::Load> episodes, const algos::RankCost& cost) {
  double sum = 0;
  for (const algos::Load& load : episodes) {
    for (const uint64_t tokens : load.tokens) {
      if (tokens > 0) sum += cost.per_expert + cost.per_token * static_cast<double>(tokens);
    }
  }
  return sum;
}

LoadBook::History HistoryOf(const GroupState& group, algos::LoadPhase phase) {
  return group.loads.HistoryOf(group.settings.num_windows_for_placement, group.settings.planning.episode_steps, phase);
}

// Policy and episodes. An explicit `policy` plans on all tokens.
LoadBook::History ChoosePolicy(const GroupState& group, std::string policy, PlanScope& scope) {
  const PlanningSettings& settings = group.settings.planning;
  if (policy.empty() && !(settings.prefill.name.empty() && settings.decode.name.empty())) {
    LoadBook::History prefill = HistoryOf(group, algos::LoadPhase::kPrefill);
    LoadBook::History decode = HistoryOf(group, algos::LoadPhase::kDecode);
    const bool is_prefill = CostOf(prefill.episodes, settings.cost) >= CostOf(decode.episodes, settings.cost);
    LoadBook::History& history = is_prefill ? prefill : decode;
    const PhasePolicy& own = is_prefill ? settings.prefill : settings.decode;
    if (!own.name.empty() && !history.episodes.empty()) {
      scope.policy = own.name;
      scope.options = own.options;
      scope.phase = is_prefill ? "prefill" : "decode";
      return std::move(history);
    }
  }
  scope.policy = policy.empty() ? group.settings.policy : std::move(policy);
  if (scope.policy == group.settings.policy) scope.options = settings.policy_options;
  return HistoryOf(group, algos::LoadPhase::kAll);
}

// All but the layers.
PlanScope Begin(const GroupState& group, std::string policy) {
  const PlanningSettings& settings = group.settings.planning;
  PlanScope scope;
  LoadBook::History history = ChoosePolicy(group, std::move(policy), scope);
  scope.span = std::max(history.num_windows, 1) * group.settings.window;
  algos::Problem& problem = scope.problem;
  problem.shape = group.info.shape;
  problem.num_layers = group.info.num_layers;
  problem.num_nodes = group.info.num_nodes;
  problem.num_expert_groups = settings.num_expert_groups;
  problem.episodes = std::move(history.episodes);
  if (problem.episodes.empty()) problem.episodes.push_back(UniformLoad(group.info));
  for (int l = 0; l < group.info.num_layers; ++l) problem.current.push_back(group.slots.LiveAndComing(LayerId(l)));
  problem.dead_ranks = group.members.AbsentRanks();
  for (const algos::Pin& pin : PinsInForce(group)) {
    if (problem.IsLive(pin.rank)) problem.pins.push_back(pin);  // others hold again when their rank is back
  }
  problem.capacities = settings.capacities;
  problem.cost = settings.cost;
  problem.survive = settings.survive;
  problem.hosts = HostsOf(group);
  return scope;
}

// Groups of experts that stay on nodes are planned node by node, which Flex alone does not.
std::shared_ptr<const algos::Flex> SnapshotFor(const GroupState& group, const PlanScope& scope) {
  const bool asked = scope.policy == kFlexPolicy && scope.phase.empty() &&
                     scope.options == group.settings.planning.policy_options && !algos::KeepsGroups(scope.problem);
  if (!asked || !group.flex.has_value() || group.flex->num_observed() == 0) return nullptr;
  return std::make_shared<const algos::Flex>(*group.flex);
}

LayerDecision Frozen(LayerId layer, const std::string& by) {
  return {.layer = layer,
          .why = DecisionReason::kFrozen,
          .reason = absl::StrCat("layer ", layer.value(), ": frozen by ", by)};
}

// Keeps the layers that are worth planning, within their moves; says why not the others.
void ChooseLayers(GroupState& group, PlanScope& scope) {
  const PlanningSettings settings = PlanningNow(group);
  algos::Problem& problem = scope.problem;
  const algos::Load load = algos::TotalLoad(problem);
  std::vector<int> moves_max(static_cast<size_t>(problem.num_layers), 0);
  for (int l = 0; l < problem.num_layers; ++l) {
    const LayerId layer(l);
    const algos::Placement& current = problem.current[layer.idx()];
    const LayerMemory& memory = group.memories[layer.idx()];
    const LayerOutline outline{.layer = layer,
                               .tokens = load.layer(layer),
                               .imbalance = group.fast_loop.Choose(current, nullptr, load.layer(layer)).level,
                               .holdings = HoldingsOf(current, problem.shape)};
    if (const std::string* by = FrozenBy(group, layer)) {
      scope.skipped.push_back(Frozen(layer, *by));
      continue;
    }
    const int num_unmet = NumPinsUnmet(problem, layer, current);
    auto reason = ReasonNotToPlan(outline, memory, settings, group.num_windows_closed);
    if (reason.has_value() && num_unmet == 0 && !OwesProtection(problem, layer)) {
      scope.skipped.push_back(*std::move(reason));
      continue;
    }
    problem.layers.push_back(layer);
    int& moves = moves_max[layer.idx()];
    moves = std::min(MovesLeft(memory, settings, group.num_windows_closed), problem.shape.num_slots());
    if (settings.moves_per_layer_max > 0) moves = std::min(moves, settings.moves_per_layer_max);
    moves = std::max(moves, num_unmet);
  }
  if (settings.layer_moves_per_100_windows > 0 || settings.moves_per_layer_max > 0) {
    problem.moves_max = std::move(moves_max);
  }
}

}  // namespace

PlanScope AskedScope(const GroupState& group, std::string policy, const PolicyOptions& options,
                     std::vector<LayerId> layers) {
  PlanScope scope = Begin(group, std::move(policy));
  for (const auto& [name, value] : options) scope.options[name] = value;
  std::ranges::sort(layers);
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  scope.problem.layers = std::move(layers);
  scope.flex = SnapshotFor(group, scope);
  return scope;
}

void LeaveOutFrozen(const GroupState& group, PlanScope& scope) {
  std::vector<LayerId> layers;
  for (LayerId layer : algos::PlannedLayers(scope.problem)) {
    if (const std::string* by = FrozenBy(group, layer)) {
      scope.skipped.push_back(Frozen(layer, *by));
    } else {
      layers.push_back(layer);
    }
  }
  if (!scope.skipped.empty()) scope.problem.layers = std::move(layers);
}

void PlanOn(std::span<const uint64_t> load, PlanScope& scope) {
  algos::Load asked{.num_layers = scope.problem.num_layers, .num_experts = scope.problem.shape.num_experts};
  asked.tokens.assign(load.begin(), load.end());
  scope.problem.episodes = {std::move(asked)};
  scope.flex = nullptr;
}

PlanScope OwnScope(GroupState& group, std::string policy) {
  PlanScope scope = Begin(group, std::move(policy));
  ChooseLayers(group, scope);
  if (!scope.problem.layers.empty()) scope.flex = SnapshotFor(group, scope);
  return scope;
}

PlanningSettings PlanningNow(const GroupState& group) {
  PlanningSettings settings = group.settings.planning;
  const bool settles = group.flex.has_value() && group.flex->num_observed() <= algos::FlexOptions().settle_windows;
  if (settles) settings.layer_moves_per_100_windows = 0;
  return settings;
}

void CountDecisions(std::span<const LayerDecision> decisions, GroupTotals& totals) {
  for (const LayerDecision& decision : decisions) {
    switch (decision.why) {
      case DecisionReason::kActs:
      case DecisionReason::kFrozen:
        break;
      case DecisionReason::kBalanced:
        ++totals.layers_balanced;
        break;
      case DecisionReason::kSteady:
        ++totals.layers_steady;
        break;
      case DecisionReason::kResting:
        ++totals.layers_resting;
        break;
      case DecisionReason::kNoMovesLeft:
      case DecisionReason::kBehind:
        ++totals.layers_over_budget;
        break;
      case DecisionReason::kTooLittleLoad:
      case DecisionReason::kStays:
      case DecisionReason::kSmallGain:
      case DecisionReason::kDoesNotPay:
      case DecisionReason::kConflict:
        ++totals.layers_without_gain;
        break;
    }
  }
}

}  // namespace evenkeel::controller
