// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/slow_loop.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "algos/policies/registry.h"
#include "algos/problem.h"
#include "controller/core/planning/group_load.h"
#include "controller/core/planning/holding.h"
#include "controller/core/planning/pins_in_force.h"
#include "controller/core/planning/plan_outcome.h"
#include "controller/core/planning/plan_scope.h"
#include "controller/core/ranks/survival.h"

namespace evenkeel::controller {

namespace {

OperationProgress Describe(const GroupState& group, const PendingPlan& plan) {
  OperationProgress operation;
  operation.id = plan.operation_id;
  operation.group = group.info.name;
  operation.cause = plan.cause;
  operation.policy = plan.policy;
  operation.phase = plan.phase;
  operation.layers = plan.layers;
  operation.for_operator = plan.for_operator;
  operation.dry_run = plan.dry_run;
  return operation;
}

void RequestPlan(Planning planning, PendingPlan plan, PlanScope scope, absl::Time now, Effects& effects) {
  plan.asked = now;
  plan.problem = std::make_shared<const algos::Problem>(std::move(scope.problem));
  plan.span = scope.span;
  plan.skipped = std::move(scope.skipped);
  const uint64_t plan_id = planning.next_plan_id++;
  ComputePlan compute{plan_id, plan.policy, plan.problem, {}};
  compute.config.options = std::move(scope.options);
  compute.config.placements = std::move(scope.placements);
  compute.flex = std::move(scope.flex);
  effects.push_back(std::move(compute));
  planning.group.plans.emplace(plan_id, std::move(plan));
}

void Begin(Planning planning, OperationProgress operation, OperationState state, std::string detail, absl::Time now,
           Effects& effects) {
  operation.state = state;
  operation.detail = std::move(detail);
  planning.operations.Begin(std::move(operation), now, effects);
}

// What runs or is planned for an operator, other than dry runs; empty if nothing.
std::string OperatorsRearrangement(const GroupState& group) {
  if (group.running.has_value() && group.running->cause == Cause::kOperator) return group.running->id;
  for (const auto& [id, plan] : group.plans) {
    if (plan.cause == Cause::kOperator && !plan.dry_run) return plan.operation_id;
  }
  return {};
}

// Overtaken by `by`. Ranks that come or go do so all the same: they are planned for again.
void Overtake(Planning planning, const std::string& operation_id, Cause cause, const std::string& by, absl::Time now,
              Effects& effects) {
  if (!IsRankChange(cause)) {
    const std::string detail = absl::StrCat("overtaken by ", by);
    return planning.operations.Close(operation_id, OperationState::kSuperseded, detail, now, effects);
  }
  RankChange* change = planning.group.changes.Find(operation_id);
  if (change != nullptr && operation_id != by) change->needs_plan = !change->cancelled;
}

enum class Overtakes { kOwnAlone, kAll };  // what the controller does by itself; what operators asked for, too

// Ends what runs and is planned.
void Supersede(Planning planning, const std::string& by, Overtakes overtakes, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  const auto spared = [&](Cause cause) { return cause == Cause::kOperator && overtakes == Overtakes::kOwnAlone; };
  absl::erase_if(group.plans, [&](const auto& entry) {
    const PendingPlan& plan = entry.second;
    if (spared(plan.cause) || plan.dry_run) return false;
    Overtake(planning, plan.operation_id, plan.cause, by, now, effects);
    return true;
  });
  if (!group.running.has_value()) return;
  for (int l = 0; l < group.info.num_layers; ++l) group.rollouts.Stop(LayerId(l));
  group.planned_shares.clear();
  Overtake(planning, group.running->id, group.running->cause, by, now, effects);
  group.running.reset();
}

absl::Status CheckNotFrozen(const GroupState& group, const RearrangeRequested& request) {
  for (LayerId layer : request.layers) {
    if (const std::string* by = FrozenBy(group, layer)) {
      return absl::FailedPreconditionError(absl::StrCat("rearrange: layer ", layer.value(), " is frozen by ", *by));
    }
  }
  for (int l = 0; l < group.info.num_layers; ++l) {
    if (FrozenBy(group, LayerId(l)) == nullptr) return absl::OkStatus();
  }
  return absl::FailedPreconditionError("rearrange: every layer is frozen");
}

absl::Status CheckRequest(const GroupState& group, const RearrangeRequested& request) {
  if (!request.policy.empty()) {
    if (const auto policy = algos::FindPolicy(request.policy); !policy.ok()) return policy.status();
  }
  for (LayerId layer : request.layers) {
    if (layer.valid() && layer.value() < group.info.num_layers) continue;
    return absl::NotFoundError(
        absl::StrCat("rearrange: unknown layer ", layer.value(), "; the group has ", group.info.num_layers, " layers"));
  }
  if (absl::Status status = CheckNotFrozen(group, request); !status.ok()) return status;
  if (const std::string reason = group.StaticReason(); !reason.empty()) return absl::FailedPreconditionError(reason);
  if (!group.formed) {
    return absl::FailedPreconditionError("rearrange: not every rank of the group has attached yet");
  }
  const std::string running = OperatorsRearrangement(group);
  if (!running.empty() && !request.dry_run) {
    return absl::FailedPreconditionError(absl::StrCat("rearrangement ", running, " is running"));
  }
  return absl::OkStatus();
}

}  // namespace

// Passes over ids that operators gave to theirs.
std::string OwnId(Planning planning) {
  GroupState& group = planning.group;
  std::string id;
  do {
    id = absl::StrCat(group.info.name, "-", group.term, "-", ++group.num_operations);
  } while (planning.operations.Find(id) != nullptr);
  return id;
}

bool OperatorRearranges(const GroupState& group) { return !OperatorsRearrangement(group).empty(); }

void PlanForRanks(Planning planning, const RankChange& change, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  Supersede(planning, change.operation_id, Overtakes::kAll, now, effects);
  PendingPlan plan;
  plan.operation_id = change.operation_id;
  plan.cause = change.cause;
  plan.for_operator = true;
  PlanScope scope = AskedScope(group, {}, {}, {});
  plan.policy = scope.policy;
  plan.phase = scope.phase;
  planning.operations.Update(
      plan.operation_id, now,
      [&](OperationProgress& operation) {
        operation.policy = plan.policy;
        operation.phase = plan.phase;
        // Of a plan before only what was done counts.
        operation.num_layers = operation.num_layers_done = 0;
        operation.num_moves = operation.num_moves_done;
      },
      effects);
  RequestPlan(planning, std::move(plan), std::move(scope), now, effects);
}

void Rearrange(Planning planning, const RearrangeRequested& request, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  PendingPlan plan;
  plan.operation_id = request.operation_id;
  plan.policy = request.policy.empty() ? group.settings.policy : request.policy;
  plan.cause = request.cause;
  plan.for_operator = true;
  plan.dry_run = request.dry_run;
  if (const absl::Status status = CheckRequest(group, request); !status.ok()) {
    Begin(planning, Describe(group, plan), OperationState::kFailed, std::string(status.message()), now, effects);
    return;
  }
  if (!request.dry_run) Supersede(planning, request.operation_id, Overtakes::kOwnAlone, now, effects);
  plan.layers = request.layers;
  std::ranges::sort(plan.layers);
  plan.layers.erase(std::unique(plan.layers.begin(), plan.layers.end()), plan.layers.end());
  PlanScope scope = AskedScope(group, request.policy, request.policy_options, plan.layers);
  LeaveOutFrozen(group, scope);
  if (!request.load.empty()) PlanOn(request.load, scope);
  scope.placements = request.placements;
  plan.of_placements = !request.placements.empty();
  plan.policy = scope.policy;
  plan.phase = scope.phase;
  planning.operations.Begin(Describe(group, plan), now, effects);
  RequestPlan(planning, std::move(plan), std::move(scope), now, effects);
}

void Cancel(Planning planning, const std::string& operation_id, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  const bool planned =
      absl::erase_if(group.plans, [&](const auto& entry) { return entry.second.operation_id == operation_id; }) > 0;
  const bool running = group.running.has_value() && group.running->id == operation_id;
  if (!planned && !running) return;
  planning.operations.Update(
      operation_id, now,
      [&](OperationProgress& operation) {
        operation.cancel_requested = true;
        if (planned) operation.state = OperationState::kCancelled;
        operation.detail = planned ? "cancelled before anything was moved" : "cancelled: the waves at hand end first";
      },
      effects);
  if (!running) return;
  group.running->cancelled = true;
  for (int l = 0; l < group.info.num_layers; ++l) group.rollouts.StopAfterWave(LayerId(l));
}

namespace {

// By a freeze or the guard: said once.
void NoteHeld(Planning planning, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  const std::string why = WhyHeld(group, now);
  if (why.empty() || std::exchange(group.last_skip, why) == why) return;
  PendingPlan plan;
  plan.operation_id = OwnId(planning);
  plan.policy = group.settings.policy;
  Begin(planning, Describe(group, plan), OperationState::kSkipped, why, now, effects);
}

}  // namespace

void PlanIfDue(Planning planning, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  if (now < group.next_placement) return;
  if (group.HoldsPlans()) {
    group.next_placement = now + group.settings.placement_interval;
    if (group.PlacementOn()) NoteHeld(planning, now, effects);
    return;
  }
  if (group.running.has_value() || !OperatorsRearrangement(group).empty() || !group.plans.empty() ||
      group.restores.running() || !group.weights.text.empty()) {
    group.next_placement = now + group.settings.window;
    return;
  }
  const Unfinished next = group.next.value_or(Unfinished());
  PendingPlan plan;
  plan.cause = group.next.has_value() ? next.cause : Cause::kSlowLoop;
  plan.policy = next.policy.empty() ? group.settings.policy : next.policy;
  plan.layers = next.layers;
  plan.for_operator = next.for_operator;
  if (!HasEnoughToPlan(group) && !OwesProtection(group)) {
    group.next_placement = now + std::min(group.settings.placement_interval, 10 * group.settings.window);
    const std::string reason = "too little load was counted to plan by";
    if (std::exchange(group.last_skip, reason) == reason) return;
    plan.operation_id = OwnId(planning);
    Begin(planning, Describe(group, plan), OperationState::kSkipped, reason, now, effects);
    return;
  }
  group.last_skip.clear();
  group.next.reset();
  group.next_placement = group.PlacementOn() ? now + group.settings.placement_interval : absl::InfiniteFuture();
  // What an operator asked for is gone on with as asked, whatever the slow loop would choose.
  PlanScope scope = next.for_operator ? AskedScope(group, next.policy, {}, next.layers) : OwnScope(group, next.policy);
  if (next.for_operator) LeaveOutFrozen(group, scope);
  plan.policy = scope.policy;
  plan.phase = scope.phase;
  plan.operation_id = OwnId(planning);
  CountDecisions(scope.skipped, group.totals);
  OperationProgress operation = Describe(group, plan);
  if (scope.problem.layers.empty() && !scope.skipped.empty()) {
    TellDecisions(std::move(scope.skipped), operation);
    operation.state = OperationState::kSkipped;
    planning.operations.Begin(std::move(operation), now, effects);
    return;
  }
  planning.operations.Begin(std::move(operation), now, effects);
  RequestPlan(planning, std::move(plan), std::move(scope), now, effects);
}

}  // namespace evenkeel::controller
