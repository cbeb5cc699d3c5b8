// SPDX-License-Identifier: Apache-2.0
#include "controller/core/set_mode.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "controller/core/pause.h"

namespace evenkeel::controller {

namespace {

// Whether it keeps load, shares and plans follows from the mode at each event; here is what must begin or end.
void Take(Planning planning, Mode mode, const std::string& why, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  const Mode before = std::exchange(group.mode, mode);
  if (!KeepsLoad(before) && KeepsLoad(mode)) {
    // What ranks report next began now, not when they were last listened to.
    for (int r = 0; r < group.info.shape.num_ranks; ++r) group.loads.Restart(RankId(r));
  }
  if (mode != Mode::kShadow) group.shadow_shares = {};
  if (!DecidesPlacement(mode)) DropOwnPlans(planning, why, now, effects);
  if (group.formed && (group.PlacementOn() || group.next.has_value())) group.next_placement = now;
}

}  // namespace

void SetMode(Planning planning, const SetModeRequested& request, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  if (!group.mode_set_by.empty()) {
    planning.operations.Close(group.mode_set_by, OperationState::kDone,
                              absl::StrCat("until ", request.operation_id, " set mode ", NameOf(request.mode)), now,
                              effects);
  }
  const bool stands = request.mode != group.settings.mode;
  OperationProgress operation;
  operation.id = request.operation_id;
  operation.group = group.info.name;
  operation.cause = Cause::kMode;
  operation.state = stands ? OperationState::kRunning : OperationState::kDone;
  operation.for_operator = true;
  operation.mode = request.mode;
  operation.detail = absl::StrCat("mode ", NameOf(request.mode), request.reason.empty() ? "" : ": ", request.reason);
  planning.operations.Begin(std::move(operation), now, effects);
  group.mode_set_by = stands ? request.operation_id : "";
  Take(planning, request.mode, absl::StrCat("mode ", NameOf(request.mode), " was set by ", request.operation_id), now,
       effects);
}

void UnsetMode(Planning planning, OperationState state, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  if (group.mode_set_by.empty()) return;
  const std::string ended = std::exchange(group.mode_set_by, "");
  planning.operations.Update(
      ended, now, [&](OperationProgress& operation) { operation.state = state; }, effects);
  Take(planning, group.settings.mode, absl::StrCat("mode ", NameOf(group.settings.mode), " is in force again"), now,
       effects);
}

}  // namespace evenkeel::controller
