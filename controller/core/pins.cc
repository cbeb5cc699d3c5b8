// SPDX-License-Identifier: Apache-2.0
#include "controller/core/pins.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "algos/policies/repair/repair.h"
#include "algos/problem.h"
#include "controller/core/planning/pins_in_force.h"

namespace evenkeel::controller {

namespace {

absl::Status CheckPart(const char* what, int32_t value, int count) {
  if (value >= 0 && value < count) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("pin: ", what, " ", value, ": 0 to ", count - 1, " wanted"));
}

absl::Status CheckInside(const GroupInfo& info, const PinRequested& request) {
  for (const algos::Pin& pin : request.pins) {
    EVENKEEL_RETURN_IF_ERROR(CheckPart("layer", pin.layer.value(), info.num_layers));
    EVENKEEL_RETURN_IF_ERROR(CheckPart("expert", pin.expert.value(), info.shape.num_experts));
    EVENKEEL_RETURN_IF_ERROR(CheckPart("rank", pin.rank.value(), info.shape.num_ranks));
  }
  for (LayerId layer : request.frozen) EVENKEEL_RETURN_IF_ERROR(CheckPart("layer", layer.value(), info.num_layers));
  return absl::OkStatus();
}

// A plan obeys pins anew; a layer that is frozen no more is looked at again.
void PlanSoon(GroupState& group, absl::Time now) {
  if (group.formed && group.PlacementOn()) group.next_placement = now;
}

}  // namespace

absl::Status CheckPin(const GroupState& group, const PinRequested& request) {
  if (request.pins.empty() && request.frozen.empty()) {
    return absl::InvalidArgumentError("pin: neither an expert nor a layer is named");
  }
  EVENKEEL_RETURN_IF_ERROR(CheckInside(group.info, request));
  algos::Problem problem;
  problem.shape = group.info.shape;
  problem.num_layers = group.info.num_layers;
  problem.pins = PinsInForce(group);
  problem.pins.insert(problem.pins.end(), request.pins.begin(), request.pins.end());
  problem.dead_ranks = group.members.AbsentRanks();
  std::erase_if(problem.pins, [&](const algos::Pin& pin) { return !problem.IsLive(pin.rank); });
  return algos::ValidateRoomForPins(problem);
}

void PinGroup(Planning planning, const PinRequested& request, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  OperationProgress operation;
  operation.id = request.operation_id;
  operation.group = group.info.name;
  operation.cause = Cause::kPin;
  operation.for_operator = true;
  operation.detail = request.reason;
  operation.pins = request.pins;
  operation.frozen = request.frozen;
  std::ranges::sort(operation.frozen);
  operation.frozen.erase(std::unique(operation.frozen.begin(), operation.frozen.end()), operation.frozen.end());
  const absl::Status status = CheckPin(group, request);
  operation.state = status.ok() ? OperationState::kRunning : OperationState::kFailed;
  if (!status.ok()) operation.detail = std::string(status.message());
  if (status.ok()) group.pins.push_back({operation.id, operation.pins, operation.frozen, operation.detail});
  planning.operations.Begin(std::move(operation), now, effects);
  if (status.ok()) PlanSoon(group, now);
}

void EndPins(Planning planning, const std::string& operation_id, OperationState state, absl::Time now,
             Effects& effects) {
  GroupState& group = planning.group;
  if (std::erase_if(group.pins, [&](const StandingPins& pins) { return pins.operation_id == operation_id; }) == 0) {
    return;
  }
  planning.operations.Update(
      operation_id, now, [&](OperationProgress& operation) { operation.state = state; }, effects);
  PlanSoon(group, now);
}

void KeepPinsThatFit(GroupState& group, std::vector<StandingPins> pins) {
  for (StandingPins& standing : pins) {
    const PinRequested asked{
        .operation_id = {}, .group = {}, .pins = standing.pins, .frozen = standing.frozen, .reason = {}, .by = {}};
    if (CheckPin(group, asked).ok()) group.pins.push_back(std::move(standing));
  }
}

}  // namespace evenkeel::controller
