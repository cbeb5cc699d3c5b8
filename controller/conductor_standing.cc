// SPDX-License-Identifier: Apache-2.0
//
// What operators ask of a group beside rearranging it: pauses, modes, pins, the end of operations, and named maps.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "controller/conductor.h"
#include "controller/convert_operation.h"
#include "controller/request_id.h"
#include "runtime/clock.h"

namespace evenkeel::controller {

absl::StatusOr<OperationProgress> Conductor::Pause(PauseRequested request) {
  EVENKEEL_RETURN_IF_ERROR(CheckReason(request.reason));
  EVENKEEL_RETURN_IF_ERROR(CheckLeads());
  EVENKEEL_ASSIGN_OR_RETURN(request.group, ResolveGroup(request.group));
  EVENKEEL_ASSIGN_OR_RETURN(const GroupStatus status,
                            coordinator_.GetGroup(request.group, runtime::MonotonicNow(), GroupDetail::kSummary));
  if (!status.paused_by.empty()) return coordinator_.GetOperation(status.paused_by);
  request.operation_id = MadeUpId("pause");
  Step(request);
  return coordinator_.GetOperation(request.operation_id);
}

absl::StatusOr<OperationProgress> Conductor::Resume(ResumeRequested request) {
  EVENKEEL_RETURN_IF_ERROR(CheckLeads());
  EVENKEEL_ASSIGN_OR_RETURN(request.group, ResolveGroup(request.group));
  EVENKEEL_ASSIGN_OR_RETURN(const GroupStatus status,
                            coordinator_.GetGroup(request.group, runtime::MonotonicNow(), GroupDetail::kSummary));
  if (status.paused_by.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("group ", request.group, " is not paused"));
  }
  Step(request);
  return coordinator_.GetOperation(status.paused_by);
}

absl::StatusOr<OperationProgress> Conductor::Cancel(const CancelRequested& request) {
  EVENKEEL_ASSIGN_OR_RETURN(const OperationProgress operation, coordinator_.GetOperation(request.operation_id));
  if (operation.state == OperationState::kCancelled) return operation;
  if (IsFinal(operation.state)) {
    return absl::FailedPreconditionError(
        absl::StrCat("operation ", request.operation_id, " has ended already: ", NameOf(operation.state)));
  }
  EVENKEEL_RETURN_IF_ERROR(CheckLeads());
  Step(request);
  return coordinator_.GetOperation(request.operation_id);
}

absl::StatusOr<OperationProgress> Conductor::SetMode(SetModeRequested request) {
  EVENKEEL_RETURN_IF_ERROR(CheckRequestId(request.operation_id));
  EVENKEEL_RETURN_IF_ERROR(CheckReason(request.reason));
  EVENKEEL_RETURN_IF_ERROR(CheckLeads());
  EVENKEEL_ASSIGN_OR_RETURN(request.group, ResolveGroup(request.group));
  if (request.operation_id.empty()) request.operation_id = MadeUpId("mode");
  Step(request);  // which leaves a known operation as it is
  return coordinator_.GetOperation(request.operation_id);
}

absl::StatusOr<OperationProgress> Conductor::Pin(PinRequested request) {
  EVENKEEL_RETURN_IF_ERROR(CheckRequestId(request.operation_id));
  if (coordinator_.GetOperation(request.operation_id).ok()) return coordinator_.GetOperation(request.operation_id);
  EVENKEEL_RETURN_IF_ERROR(CheckReason(request.reason));
  EVENKEEL_RETURN_IF_ERROR(CheckLeads());
  EVENKEEL_ASSIGN_OR_RETURN(request.group, ResolveGroup(request.group));
  EVENKEEL_RETURN_IF_ERROR(coordinator_.CheckPin(request));
  if (request.operation_id.empty()) request.operation_id = MadeUpId("pin");
  Step(request);
  return coordinator_.GetOperation(request.operation_id);
}

absl::StatusOr<std::vector<OperationProgress>> Conductor::Unpin(UnpinRequested request, bool all) {
  EVENKEEL_RETURN_IF_ERROR(CheckLeads());
  EVENKEEL_ASSIGN_OR_RETURN(request.group, ResolveGroup(request.group));
  EVENKEEL_ASSIGN_OR_RETURN(const GroupStatus status, coordinator_.GetGroup(request.group, runtime::MonotonicNow()));
  if (all) {
    for (const PinStatus& pins : status.pins) request.operation_ids.push_back(pins.operation_id);
  } else if (request.operation_ids.empty()) {
    return absl::InvalidArgumentError("ids: which pins? all of them are meant with `all`");
  }
  for (const std::string& id : request.operation_ids) {
    const absl::StatusOr<OperationProgress> operation = coordinator_.GetOperation(id);
    if (operation.ok() && operation->cause == Cause::kPin && operation->group == request.group) continue;
    return absl::NotFoundError(absl::StrCat("group ", request.group, " has no pins ", id));
  }
  Step(request);
  std::vector<OperationProgress> ended;
  for (const std::string& id : request.operation_ids) {
    EVENKEEL_ASSIGN_OR_RETURN(OperationProgress operation, coordinator_.GetOperation(id));
    ended.push_back(std::move(operation));
  }
  return ended;
}

absl::StatusOr<NamedPlacements> Conductor::Resolve(const std::string& group, const MapTarget& target) const {
  if (const auto* rollback = std::get_if<RollbackTarget>(&target)) return coordinator_.PlacementsOf(group, *rollback);
  EVENKEEL_ASSIGN_OR_RETURN(const GroupStatus status,
                            coordinator_.GetGroup(group, runtime::MonotonicNow(), GroupDetail::kSummary));
  std::vector<LayerId> layers;
  std::vector<algos::Placement> placements;
  for (const auto& [layer, placement] : std::get<0>(target)) {
    layers.push_back(layer);
    placements.push_back(placement);
  }
  return NamePlacements(status.info, layers, std::move(placements));
}

absl::StatusOr<std::string> Conductor::GoTo(const MapTarget& target, RearrangeRequested request) {
  EVENKEEL_RETURN_IF_ERROR(CheckRequestId(request.operation_id));
  if (coordinator_.GetOperation(request.operation_id).ok()) return request.operation_id;
  EVENKEEL_RETURN_IF_ERROR(CheckLeads());
  EVENKEEL_ASSIGN_OR_RETURN(request.group, ResolveGroup(request.group));
  EVENKEEL_ASSIGN_OR_RETURN(NamedPlacements named, Resolve(request.group, target));
  request.policy = "static";
  request.layers = std::move(named.layers);
  request.placements = std::move(named.placements);
  return Rearrange(std::move(request));
}

absl::StatusOr<MapDiff> Conductor::Diff(const std::string& group, const MapTarget& target) const {
  EVENKEEL_ASSIGN_OR_RETURN(const std::string name, ResolveGroup(group));
  EVENKEEL_ASSIGN_OR_RETURN(const NamedPlacements named, Resolve(name, target));
  return coordinator_.Diff(name, named);
}

}  // namespace evenkeel::controller
