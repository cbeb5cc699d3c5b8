// SPDX-License-Identifier: Apache-2.0
#include "controller/core/coordinator.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "controller/core/coordinator_state.h"
#include "controller/core/group.h"
#include "controller/core/group_bytes.h"
#include "controller/core/planning/planning_settings.h"
#include "controller/core/ranks/admission.h"
#include "controller/core/ranks/rank_changes.h"

namespace evenkeel::controller {

namespace {

constexpr absl::Duration kForgettingInterval = absl::Minutes(1);
constexpr size_t kForgottenMax = 65536;  // names remembered; then no further group is forgotten in this term

}  // namespace

Coordinator::Coordinator(CoordinatorSettings settings) : state_(std::make_unique<State>(std::move(settings))) {
  for (const OperationProgress& operation : state_->settings.stored_operations) state_->operations.Restore(operation);
}

Coordinator::~Coordinator() = default;

Effects Coordinator::Step(absl::Time now, const Event& event) {
  State& state = *state_;
  Effects effects;
  if (state.phase == State::Phase::kSteppedDown) return effects;
  if (state.phase == State::Phase::kNew) {
    state.phase = State::Phase::kListening;
    state.listen_end = now + state.settings.listen_interval;
  }
  std::visit([&](const auto& body) { state.On(now, body, effects); }, event);
  if (state.phase == State::Phase::kListening && state.listen_end <= now) state.TakeTerm(now, effects);
  if (state.phase == State::Phase::kLeading) state.AdvanceGroups(now, effects);
  return effects;
}

absl::Time Coordinator::NextWakeup() const {
  switch (state_->phase) {
    case State::Phase::kNew:
      return absl::InfinitePast();
    case State::Phase::kListening:
      return state_->listen_end;
    case State::Phase::kSteppedDown:
      return absl::InfiniteFuture();
    case State::Phase::kLeading:
      break;
  }
  absl::Time next = state_->groups.empty() ? absl::InfiniteFuture() : state_->next_forgetting;
  for (const auto& [name, group] : state_->groups) next = std::min(next, group->NextWakeup());
  return next;
}

// ---- Terms

bool Coordinator::State::StepsDownFor(const Attach& attach, Effects& effects) {
  highest_term = std::max(highest_term, attach.term_obeyed);
  if (phase != Phase::kLeading || attach.term_obeyed < term) return false;
  if (attach.term_obeyed == term) {
    // Another controller leads in the same term if this agent was not welcomed by us.
    const auto found = groups.find(attach.group.name);
    if (found != groups.end() && found->second->Welcomed(attach.member)) return false;
    if (forgotten.contains(attach.group.name)) return false;
  }
  phase = Phase::kSteppedDown;
  effects.push_back(StepDown{attach.term_obeyed});
  return true;
}

void Coordinator::State::TakeTerm(absl::Time now, Effects& effects) {
  phase = Phase::kLeading;
  term = highest_term + 1;
  effects.push_back(PersistTerm{term});
  for (const OperationProgress& operation : settings.stored_operations) {
    if (IsFinished(operation.state)) continue;
    if (operation.cancel_requested) {
      operations.Close(operation.id, OperationState::kCancelled, "cancelled; the controller was started anew meanwhile",
                       now, effects);
      continue;
    }
    if (IsRankChange(operation.cause) || Stands(operation.cause)) continue;  // goes on under its id
    operations.Close(operation.id, OperationState::kSuperseded,
                     absl::StrCat("the controller was started anew; ",
                                  operation.dry_run ? "ask again" : absl::StrCat("planned again in term ", term)),
                     now, effects);
    if (operation.dry_run) continue;
    const bool for_operator = operation.for_operator || operation.cause == Cause::kOperator;
    const auto known = plan_anew.find(operation.group);
    if (known != plan_anew.end() && known->second.for_operator && !for_operator) continue;
    plan_anew[operation.group] = {operation.policy, operation.layers, for_operator};
  }
  for (auto& [name, group] : groups) {
    if (const auto left = plan_anew.find(name); left != plan_anew.end()) group->PlanAnew(left->second);
    HandOver(*group);
    group->TakeTerm(term, effects);
  }
}

// ---- Agents

void Coordinator::State::Refuse(SessionId session, absl::Status status, Effects& effects) {
  effects.push_back(SendToAgent{session, Refused{std::move(status)}});
  effects.push_back(CloseSession{session});
}

const GroupSettings& Coordinator::State::SettingsOf(std::string_view group) const {
  for (const auto& [name, own] : settings.groups) {
    if (name == group) return own;
  }
  return settings.defaults;
}

void Coordinator::State::AddGroup(const GroupInfo& info, absl::Time now) {
  auto group = std::make_unique<Group>(info, SettingsOf(info.name), term, operations, next_plan_id, now);
  group->RestoreLoads(settings.stored_loads, now);
  if (const auto left = plan_anew.find(info.name); left != plan_anew.end()) group->PlanAnew(left->second);
  if (const auto before = forgotten.find(info.name); before != forgotten.end()) group->ContinueFrom(before->second);
  if (phase == Phase::kLeading) HandOver(*group);
  groups.emplace(info.name, std::move(group));
}

absl::Status Coordinator::State::CheckRoom(const GroupInfo& info) const {
  uint64_t others = 0;
  for (const auto& [name, group] : groups) {
    if (name != info.name) others += group->bytes();
  }
  const uint64_t wanted = GroupBytes(info, SettingsOf(info.name));
  if (wanted <= settings.group_bytes_max && others <= settings.group_bytes_max - wanted) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("attach: group ", info.name, " would take ", wanted,
                                                   " bytes beside the ", others, " of other groups: at most ",
                                                   settings.group_bytes_max, " (group_bytes_max)"));
}

absl::Status Coordinator::State::TakeIn(absl::Time now, SessionId session, const Attach& attach, Effects& effects) {
  EVENKEEL_RETURN_IF_ERROR(CheckFits(SettingsOf(attach.group.name).planning, attach.group));
  if (!groups.contains(attach.group.name)) {
    if (groups.size() >= static_cast<size_t>(settings.num_groups_max)) {
      return absl::ResourceExhaustedError(
          absl::StrCat("attach: group ", attach.group.name, " would be one more than ", settings.num_groups_max));
    }
    EVENKEEL_RETURN_IF_ERROR(CheckRoom(attach.group));
    AddGroup(attach.group, now);
  } else if (groups.at(attach.group.name)->state().info != attach.group) {
    EVENKEEL_RETURN_IF_ERROR(CheckRoom(attach.group));
  }
  return groups.at(attach.group.name)->OnAttach(session, attach, now, effects);
}

void Coordinator::State::Attached(absl::Time now, SessionId session, const Attach& attach, Effects& effects) {
  if (const absl::Status status = CheckAttach(attach); !status.ok()) {
    Refuse(session, status, effects);
    return;
  }
  if (StepsDownFor(attach, effects)) return;
  if (const absl::Status status = TakeIn(now, session, attach, effects); !status.ok()) {
    Refuse(session, status, effects);
    return;
  }
  sessions[session] = {attach.group.name, attach.member.rank};
}

void Coordinator::State::On(absl::Time now, const AgentMessageReceived& event, Effects& effects) {
  const auto found = sessions.find(event.session);
  if (found == sessions.end()) {
    // Only an Attach opens a session; what is left of one that was refused says nothing any more.
    if (const Attach* attach = std::get_if<Attach>(&event.message)) Attached(now, event.session, *attach, effects);
    return;
  }
  Group& group = *groups.at(found->second.group);
  const absl::Status status = group.OnMessage(event.session, found->second.rank, event.message, now, effects);
  if (status.ok()) return;
  sessions.erase(found);
  group.OnDetach(event.session, now, effects);
  Refuse(event.session, status, effects);
}

void Coordinator::State::On(absl::Time now, const AgentDetached& event, Effects& effects) {
  const auto found = sessions.find(event.session);
  if (found == sessions.end()) return;
  groups.at(found->second.group)->OnDetach(event.session, now, effects);
  sessions.erase(found);
}

// ---- Plans and time

void Coordinator::State::On(absl::Time now, const PlanComputed& event, Effects& effects) {
  for (auto& [name, group] : groups) {
    if (group->OnPlan(event, now, effects)) return;
  }
}

bool Coordinator::State::IsConfigured(std::string_view group) const {
  return std::ranges::any_of(settings.groups, [&](const auto& entry) { return entry.first == group; });
}

void Coordinator::State::ForgetGroups(absl::Time now, Effects& effects) {
  if (now < next_forgetting) return;
  next_forgetting = now + std::min(settings.group_kept, kForgettingInterval);
  absl::erase_if(groups, [&](const auto& entry) {
    const auto& [name, group] = entry;
    if (IsConfigured(name) || forgotten.size() >= kForgottenMax) return false;
    if (group->IdleSince() + settings.group_kept > now) return false;
    effects.push_back(
        Note{name, absl::StrCat("forgotten: no agent was attached for ", absl::FormatDuration(settings.group_kept))});
    plan_anew.erase(name);
    forgotten[name] = group->numbers();
    return true;
  });
}

void Coordinator::State::AdvanceGroups(absl::Time now, Effects& effects) {
  ForgetGroups(now, effects);
  for (auto& [name, group] : groups) {
    if (group->needs_advance() || group->NextWakeup() <= now) group->Advance(now, effects);
  }
}

}  // namespace evenkeel::controller
