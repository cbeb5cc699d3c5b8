// SPDX-License-Identifier: Apache-2.0
#include "controller/core/pause.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace evenkeel::controller {

void DropOwnPlans(Planning planning, const std::string& why, absl::Time now, Effects& effects) {
  absl::erase_if(planning.group.plans, [&](const auto& entry) {
    const PendingPlan& plan = entry.second;
    if (plan.for_operator || (plan.cause != Cause::kSlowLoop && plan.cause != Cause::kTakeover)) return false;
    planning.operations.Close(plan.operation_id, OperationState::kSuperseded, why, now, effects);
    return true;
  });
}

void PauseGroup(Planning planning, const PauseRequested& request, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  if (group.pause.has_value()) return;
  DropOwnPlans(planning, absl::StrCat("the group was paused by ", request.operation_id), now, effects);
  OperationProgress operation;
  operation.id = request.operation_id;
  operation.group = group.info.name;
  operation.cause = Cause::kPause;
  operation.state = OperationState::kRunning;
  operation.for_operator = true;
  operation.detail = request.reason;
  planning.operations.Begin(std::move(operation), now, effects);
  group.pause = Pause{request.operation_id, request.reason};
}

void EndPause(Planning planning, OperationState state, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  if (!group.pause.has_value()) return;
  const Pause pause = *std::exchange(group.pause, std::nullopt);
  planning.operations.Update(
      pause.operation_id, now, [&](OperationProgress& operation) { operation.state = state; }, effects);
  if (group.formed && (group.PlacementOn() || group.next.has_value())) group.next_placement = now;
}

}  // namespace evenkeel::controller
