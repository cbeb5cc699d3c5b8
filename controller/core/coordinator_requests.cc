// SPDX-License-Identifier: Apache-2.0
//
// What operators ask of the coordinator, and what a group takes over of what they asked of controllers before.
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"

#include "controller/core/coordinator_state.h"
#include "controller/core/group.h"
#include "controller/core/ranks/rank_changes.h"

namespace evenkeel::controller {

void Coordinator::State::HandOver(Group& group) const {
  const std::vector<OperationProgress> known = operations.List(group.state().info.name);
  absl::btree_set<RankId> left;
  std::vector<StandingPins> pins;
  for (auto operation = known.rbegin(); operation != known.rend(); ++operation) {
    if (operation->cause == Cause::kPause && !IsFinished(operation->state)) {
      group.StayPaused({operation->id, operation->detail});
    }
    if (operation->cause == Cause::kMode && !IsFinished(operation->state) && operation->mode.has_value()) {
      group.StayIn(*operation->mode, operation->id);
    }
    if (operation->cause == Cause::kPin && !IsFinished(operation->state)) {
      pins.push_back({operation->id, operation->pins, operation->frozen, operation->detail});
    }
    if (!IsRankChange(operation->cause)) continue;
    if (!IsFinished(operation->state)) group.GoOn(*operation);
    if (operation->state != OperationState::kDone) continue;
    for (RankId rank : operation->ranks) {
      left.erase(rank);
      if (operation->cause == Cause::kDrain) left.insert(rank);
    }
  }
  group.KnowLeft({left.begin(), left.end()});
  group.StayPinned(std::move(pins));
}

Group* Coordinator::State::GroupFor(OperationProgress asked, absl::Time now, Effects& effects) {
  const auto group = groups.find(asked.group);
  if (group != groups.end() && phase == Phase::kLeading) return group->second.get();
  asked.state = OperationState::kFailed;
  asked.detail = phase == Phase::kLeading ? std::string(FindGroup(asked.group).status().message())
                                          : "the controller is still listening for agents";
  operations.Begin(std::move(asked), now, effects);
  return nullptr;
}

void Coordinator::State::On(absl::Time now, const RearrangeRequested& event, Effects& effects) {
  if (operations.Find(event.operation_id) != nullptr) return;
  OperationProgress asked;
  asked.id = event.operation_id;
  asked.group = event.group;
  asked.policy = event.policy;
  if (Group* group = GroupFor(std::move(asked), now, effects)) group->OnRearrange(event, now, effects);
  NoteAsked(event.operation_id, event.by, event.request, now, effects);
}

void Coordinator::State::On(absl::Time now, const AdmitRequested& event, Effects& effects) {
  if (operations.Find(event.operation_id) != nullptr) return;
  OperationProgress asked;
  asked.id = event.operation_id;
  asked.group = event.group;
  asked.cause = Cause::kAdmit;
  asked.ranks = event.ranks;
  if (Group* group = GroupFor(std::move(asked), now, effects)) group->OnAdmit(event, now, effects);
  NoteAsked(event.operation_id, event.by, "AdmitRank", now, effects);
}

void Coordinator::State::On(absl::Time now, const DrainRequested& event, Effects& effects) {
  if (operations.Find(event.operation_id) != nullptr) return;
  OperationProgress asked;
  asked.id = event.operation_id;
  asked.group = event.group;
  asked.cause = Cause::kDrain;
  asked.ranks = event.ranks;
  if (Group* group = GroupFor(std::move(asked), now, effects)) group->OnDrain(event, now, effects);
  NoteAsked(event.operation_id, event.by, "DrainRank", now, effects);
}

void Coordinator::State::On(absl::Time now, const PauseRequested& event, Effects& effects) {
  if (operations.Find(event.operation_id) != nullptr) return;
  OperationProgress asked;
  asked.id = event.operation_id;
  asked.group = event.group;
  asked.cause = Cause::kPause;
  if (Group* group = GroupFor(std::move(asked), now, effects)) group->OnPause(event, now, effects);
  NoteAsked(event.operation_id, event.by, "Pause", now, effects);
}

void Coordinator::State::On(absl::Time now, const ResumeRequested& event, Effects& effects) {
  const auto group = groups.find(event.group);
  if (group == groups.end() || phase != Phase::kLeading) return;
  const std::string paused_by = group->second->state().pause.value_or(Pause()).operation_id;
  group->second->OnResume(now, effects);
  NoteEnded(paused_by, event.by, now, effects);
}

void Coordinator::State::On(absl::Time now, const SetModeRequested& event, Effects& effects) {
  if (operations.Find(event.operation_id) != nullptr) return;
  OperationProgress asked;
  asked.id = event.operation_id;
  asked.group = event.group;
  asked.cause = Cause::kMode;
  asked.mode = event.mode;
  if (Group* group = GroupFor(std::move(asked), now, effects)) group->OnSetMode(event, now, effects);
  NoteAsked(event.operation_id, event.by, "SetMode", now, effects);
}

void Coordinator::State::On(absl::Time now, const PinRequested& event, Effects& effects) {
  if (operations.Find(event.operation_id) != nullptr) return;
  OperationProgress asked;
  asked.id = event.operation_id;
  asked.group = event.group;
  asked.cause = Cause::kPin;
  if (Group* group = GroupFor(std::move(asked), now, effects)) group->OnPin(event, now, effects);
  NoteAsked(event.operation_id, event.by, "Pin", now, effects);
}

void Coordinator::State::On(absl::Time now, const UnpinRequested& event, Effects& effects) {
  const auto group = groups.find(event.group);
  if (group == groups.end() || phase != Phase::kLeading) return;
  for (const std::string& id : event.operation_ids) {
    const OperationProgress* operation = operations.Find(id);
    if (operation == nullptr || IsFinished(operation->state)) continue;
    group->second->OnUnpin(id, now, effects);
    NoteEnded(id, event.by, now, effects);
  }
}

void Coordinator::State::On(absl::Time now, const CancelRequested& event, Effects& effects) {
  const OperationProgress* operation = operations.Find(event.operation_id);
  if (operation == nullptr || IsFinished(operation->state)) return;
  const auto group = groups.find(operation->group);
  if (group == groups.end()) return;
  group->second->OnCancel(event.operation_id, now, effects);
  NoteEnded(event.operation_id, event.by, now, effects);
}

void Coordinator::State::NoteAsked(std::string_view id, const std::string& by, const std::string& request,
                                   absl::Time now, Effects& effects) {
  if (by.empty()) return;
  operations.Update(
      id, now,
      [&](OperationProgress& operation) {
        operation.requested_by = by;
        operation.request = request;
      },
      effects);
}

void Coordinator::State::NoteEnded(std::string_view id, const std::string& by, absl::Time now, Effects& effects) {
  if (by.empty()) return;
  operations.Update(
      id, now, [&](OperationProgress& operation) { operation.ended_by = by; }, effects);
}

}  // namespace evenkeel::controller
