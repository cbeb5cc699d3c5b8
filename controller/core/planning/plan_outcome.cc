// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/plan_outcome.h"

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/problem.h"
#include "controller/core/planning/layer_choice.h"
#include "controller/core/planning/pins_in_force.h"
#include "controller/core/planning/plan_check.h"
#include "controller/core/planning/plan_scope.h"
#include "controller/core/planning/pricing.h"

namespace evenkeel::controller {

namespace {

constexpr absl::Duration kPlanForRanksAgain = absl::Seconds(5);

// To empty a rank, or to take replicas away, may need no move at all.
void ActWherePlacedOtherwise(const algos::Problem& problem, std::span<const algos::Placement> targets,
                             const char* reason, std::span<PricedLayer> priced) {
  for (size_t i = 0; i < priced.size(); ++i) {
    LayerDecision& decision = priced[i].decision;
    const algos::Placement& current = problem.current[decision.layer.idx()];
    if (decision.why != DecisionReason::kStays) continue;
    if (HoldingsOf(targets[i], problem.shape) == HoldingsOf(current, problem.shape)) continue;
    decision.act = true;
    decision.why = DecisionReason::kActs;
    decision.reason = reason;
  }
}

// Whatever the gain, and before the others.
void ActWherePinned(const algos::Problem& problem, std::span<const algos::Placement> targets,
                    std::span<PricedLayer> priced) {
  for (size_t i = 0; i < priced.size(); ++i) {
    LayerDecision& decision = priced[i].decision;
    const int num_met = NumPinsUnmet(problem, decision.layer, problem.current[decision.layer.idx()]) -
                        NumPinsUnmet(problem, decision.layer, targets[i]);
    if (num_met <= 0 || decision.why == DecisionReason::kConflict) continue;
    decision.act = priced[i].protects = true;
    decision.why = DecisionReason::kActs;
    decision.reason = absl::StrCat("brings ", num_met, " pinned experts to their ranks");
  }
}

// What becomes of each layer that was planned.
std::vector<PricedLayer> Decide(GroupState& group, const PendingPlan& plan, std::span<const algos::Placement> targets) {
  std::vector<PricedLayer> priced = PriceOf(*plan.problem, targets, group.info, group.settings, group.slots,
                                            group.fast_loop, {.force = plan.for_operator, .span = plan.span});
  if (IsRankChange(plan.cause)) ActWherePlacedOtherwise(*plan.problem, targets, "ranks come or go", priced);
  if (plan.of_placements) ActWherePlacedOtherwise(*plan.problem, targets, "asked for", priced);
  ActWherePinned(*plan.problem, targets, priced);
  if (!plan.for_operator) KeepWithinBudgets(priced, group.memories, PlanningNow(group), group.num_windows_closed);
  return priced;
}

void RememberAll(GroupState& group, const algos::Problem& problem, std::span<const PricedLayer> priced,
                 std::span<const algos::Placement> targets, bool carried_out) {
  const algos::Load load = algos::TotalLoad(problem);
  const PlanningSettings settings = PlanningNow(group);
  for (size_t i = 0; i < priced.size(); ++i) {
    const LayerDecision& decision = priced[i].decision;
    if (decision.act && !carried_out) continue;
    const algos::Placement& holds = decision.act ? targets[i] : problem.current[decision.layer.idx()];
    Remember(decision, load.layer(decision.layer), HoldingsOf(holds, problem.shape), settings, group.num_windows_closed,
             group.memories[decision.layer.idx()]);
  }
}

// As the group is before anything moves, for a rollback.
void KeepBefore(GroupState& group, const PendingPlan& plan, std::span<const PricedLayer> priced, absl::Time now) {
  PlacementHistory::Entry entry{
      .operation_id = plan.operation_id, .epoch = group.publisher.epoch(), .time = now, .before = {}};
  for (const PricedLayer& layer : priced) {
    const LayerId id = layer.decision.layer;
    if (layer.decision.act) entry.before.emplace_back(id, plan.problem->current[id.idx()]);
  }
  group.history.Add(std::move(entry));
}

void StartRollouts(GroupState& group, const PendingPlan& plan, std::span<const PricedLayer> priced,
                   std::vector<algos::Placement> targets, std::vector<algos::LayerPlan> planned, absl::Time now) {
  RunningOperation running;
  running.id = plan.operation_id;
  running.cause = plan.cause;
  for (size_t i = 0; i < priced.size(); ++i) {
    if (!priced[i].decision.act) continue;
    const LayerId layer = priced[i].decision.layer;
    algos::LayerPlan& wanted = planned[layer.idx()];
    group.planned_shares.erase(layer);
    if (!wanted.shares.empty() && wanted.placement == targets[i]) {
      group.planned_shares.emplace(layer, PlannedShares{targets[i], std::move(wanted.shares)});
    }
    group.rollouts.Start(layer, std::move(targets[i]), plan.operation_id, now);
    ++running.num_layers_left;
  }
  group.running = std::move(running);
}

// Skipped layers and planned ones, by layer.
std::vector<LayerDecision> AllDecisions(std::vector<LayerDecision> skipped, std::span<const PricedLayer> priced) {
  for (const PricedLayer& layer : priced) skipped.push_back(layer.decision);
  std::ranges::sort(skipped, {}, &LayerDecision::layer);
  return skipped;
}

// The plan is for ranks that are not those that serve any more.
void PlanAgain(Planning planning, const PendingPlan& plan, const std::string& why, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  if (IsRankChange(plan.cause)) {
    if (RankChange* change = group.changes.Find(plan.operation_id)) change->needs_plan = !change->cancelled;
    return;
  }
  const bool again = plan.for_operator && !plan.of_placements;  // placements named are for the ranks that there were
  planning.operations.Close(plan.operation_id, OperationState::kSuperseded,
                            absl::StrCat(why, again ? "; planned again" : ""), now, effects);
  if (again) group.next = Unfinished{plan.policy, plan.layers, true};
  if (again || group.PlacementOn()) group.next_placement = now;
}

void FailChange(Planning planning, const std::string& operation_id, std::string why, absl::Time now) {
  RankChange* change = planning.group.changes.Find(operation_id);
  if (change == nullptr) return;
  change->failure = std::move(why);
  change->plan_after = now + kPlanForRanksAgain;
}

}  // namespace

void TellDecisions(std::vector<LayerDecision> decisions, OperationProgress& operation) {
  std::vector<double> before, after;
  for (const LayerDecision& decision : decisions) {
    before.push_back(decision.imbalance_before);
    after.push_back(decision.act ? decision.imbalance_after : decision.imbalance_before);
    if (!decision.act) continue;
    ++operation.num_layers;
    operation.num_moves += decision.num_moves;
  }
  operation.imbalance_before = MeanOfKnown(before);
  operation.imbalance_predicted = MeanOfKnown(after);
  operation.detail = Summarise(decisions);
  operation.decisions = std::make_shared<const std::vector<LayerDecision>>(std::move(decisions));
}

bool TakePlan(Planning planning, const PlanComputed& computed, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  const auto found = group.plans.find(computed.plan_id);
  if (found == group.plans.end()) return false;
  const PendingPlan plan = std::move(found->second);
  group.plans.erase(found);
  group.totals.planning += now - plan.asked;
  if (!plan.dry_run && plan.problem->dead_ranks != group.members.AbsentRanks()) {
    PlanAgain(planning, plan, "the ranks changed while it was planned", now, effects);
    return true;
  }
  if (const absl::Status status = CheckPlan(group, *plan.problem, computed); !status.ok()) {
    if (IsRankChange(plan.cause)) {
      FailChange(planning, plan.operation_id, std::string(status.message()), now);
      return true;
    }
    if (!plan.for_operator) ++group.num_plans_failed;
    planning.operations.Close(plan.operation_id, OperationState::kFailed, std::string(status.message()), now, effects);
    return true;
  }
  std::vector<algos::Placement> targets = TargetsOf(*plan.problem, *computed.plans, group.slots);
  const std::vector<PricedLayer> priced = Decide(group, plan, targets);
  const bool any = std::ranges::any_of(priced, [](const PricedLayer& layer) { return layer.decision.act; });
  const bool shadows = !plan.for_operator && !plan.dry_run && !Acts(group.mode);
  planning.operations.Update(
      plan.operation_id, now,
      [&](OperationProgress& operation) {
        TellDecisions(AllDecisions(plan.skipped, priced), operation);
        operation.planning += now - plan.asked;
        operation.state = plan.dry_run                      ? OperationState::kDone
                          : any || IsRankChange(plan.cause) ? OperationState::kRunning
                          : plan.for_operator               ? OperationState::kDone
                                                            : OperationState::kSkipped;
        if (shadows) {
          operation.state = OperationState::kSkipped;
          operation.detail = absl::StrCat("mode shadow, not carried out: ", operation.detail);
        }
        if (plan.dry_run) operation.detail = absl::StrCat("dry run: ", operation.detail);
      },
      effects);
  if (plan.dry_run) return true;
  RememberAll(group, *plan.problem, priced, targets, !shadows);
  if (!plan.for_operator) {
    group.num_plans_failed = 0;
    group.totals.layers_planned += priced.size();
    CountDecisions(AllDecisions({}, priced), group.totals);
  }
  if (!any || shadows) return true;
  KeepBefore(group, plan, priced, now);
  StartRollouts(group, plan, priced, std::move(targets), *computed.plans, now);
  return true;
}

}  // namespace evenkeel::controller
