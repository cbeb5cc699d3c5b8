// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/guard_watch.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "controller/core/pause.h"
#include "controller/core/planning/holding.h"
#include "controller/core/planning/map_diff.h"
#include "controller/core/planning/slow_loop.h"

namespace evenkeel::controller {

namespace {

// Whose effect on step times is to be judged: not of ranks that come or go, nor of what the guard undoes.
bool IsJudged(Cause cause) {
  return cause == Cause::kSlowLoop || cause == Cause::kOperator || cause == Cause::kTakeover;
}

// The maps kept when the trial began, of layers whose live slots are the same now and whose shares are not.
Publisher::LayerMaps SharesBefore(const GroupState& group) {
  Publisher::LayerMaps before;
  for (size_t l = 0; l < group.maps_on_trial.size(); ++l) {
    const algos::LayerMap& kept = group.maps_on_trial[l];
    const LayerId layer(static_cast<int32_t>(l));
    const algos::LayerMap& now = group.publisher.map(layer);
    if (kept.offsets == now.offsets && kept.slots == now.slots && kept.bounds != now.bounds) {
      before.emplace_back(layer, kept);
    }
  }
  return before;
}

// Goes back to what was before the operation; the operation that does.
absl::StatusOr<std::string> UndoOperation(Planning planning, const std::string& operation_id, absl::Time now,
                                          Effects& effects) {
  GroupState& group = planning.group;
  EVENKEEL_ASSIGN_OR_RETURN(NamedPlacements before, PlacementsOf(group, {.operation_id = operation_id}));
  RearrangeRequested request{.operation_id = OwnId(planning),
                             .group = group.info.name,
                             .policy = "static",
                             .layers = std::move(before.layers)};
  request.placements = std::move(before.placements);
  request.cause = Cause::kGuard;
  Rearrange(planning, request, now, effects);
  const OperationProgress& begun = *planning.operations.Find(request.operation_id);
  if (begun.state == OperationState::kFailed) return absl::FailedPreconditionError(begun.detail);
  return request.operation_id;
}

Publisher::LayerMaps Undo(Planning planning, const Guard::Verdict& verdict, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  Publisher::LayerMaps shares;
  std::string done;
  group.guard.Rest(now);
  if (!verdict.operation_id.empty()) {
    const absl::StatusOr<std::string> by = UndoOperation(planning, verdict.operation_id, now, effects);
    done = by.ok() ? absl::StrCat("undone by ", *by) : absl::StrCat("not undone: ", by.status().message());
    group.totals.guard_undone += by.ok();
  } else {
    shares = SharesBefore(group);
    group.totals.guard_undone += !shares.empty();
    done = absl::StrCat("shares of ", shares.size(), " layers are as before again");
  }
  const std::string what =
      verdict.operation_id.empty() ? "new shares" : absl::StrCat("operation ", verdict.operation_id);
  group.guard_verdict = absl::StrCat("since ", what, " ", verdict.text, ": ", done);
  group.Alert(
      absl::StrCat("guard: ", group.guard_verdict, "; the controller rests until ",
                   UtcText(group.guard.resting_until())),
      [](const GroupState& g) { return g.guard.resting(g.clock); }, effects);
  DropOwnPlans(planning, "the guard found a change to slow the engines down", now, effects);
  return shares;
}

}  // namespace

void NoteEngineSteps(GroupState& group, const MemberRecord& member, const EngineStatus& message) {
  if (!group.guard.on()) return;
  const uint64_t before = message.num_steps >= member.engine.num_steps ? member.engine.num_steps : 0;
  group.guard.NoteSteps(group.clock, message.mean_step_time, static_cast<int64_t>(message.num_steps - before));
}

void NoteEngineTokens(GroupState& group) {
  const uint64_t before = std::exchange(group.tokens_guarded, group.loads.num_tokens());
  group.guard.NoteTokens(group.clock, group.tokens_guarded - before);
}

void NoteMapChange(GroupState& group, bool moved, absl::Time now) {
  if (!group.guard.on() || !group.publisher.published()) return;
  std::string operation;
  if (moved) {
    // Ranks that come or go, experts that are restored: steps before and after are not alike.
    if (!group.running.has_value() || !IsJudged(group.running->cause)) return group.guard.EndTrial();
    operation = group.running->id;
  }
  if (!group.guard.NoteChange(now, operation)) return;
  group.maps_on_trial.clear();
  for (int l = 0; l < group.info.num_layers; ++l) group.maps_on_trial.push_back(group.publisher.map(LayerId(l)));
}

Publisher::LayerMaps AdvanceGuard(Planning planning, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  if (!group.guard.on() || now < group.next_guard_look) return {};
  group.next_guard_look = now + group.settings.guard.window / StepWindow::kSlices;
  const MovePace before = group.guard.pace();
  group.guard.Look(now, group.rollouts.moving());
  group.rollouts.SetPace(group.guard.pace());
  if (group.guard.pace() != before && group.guard.pace() != MovePace::kFree) {
    group.Alert(
        absl::StrCat("guard: ", group.guard.reason()),
        [pace = group.guard.pace()](const GroupState& g) { return g.guard.pace() == pace; }, effects);
  }
  if (group.running.has_value()) group.guard.NoteMoving(now);
  const std::optional<Guard::Verdict> verdict = group.guard.Judge(now);
  if (!verdict.has_value()) return {};
  return Undo(planning, *verdict, now, effects);
}

absl::Time NextGuardLook(const GroupState& group) {
  return group.guard.on() ? group.next_guard_look : absl::InfiniteFuture();
}

}  // namespace evenkeel::controller
