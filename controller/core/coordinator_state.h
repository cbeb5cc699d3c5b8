// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a coordinator holds: shared by the files that implement it, and by nothing else.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/container/btree_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "controller/core/coordinator.h"
#include "controller/core/group.h"
#include "controller/core/operations.h"

namespace evenkeel::controller {

struct Coordinator::State {
  explicit State(CoordinatorSettings the_settings)
      : settings(std::move(the_settings)),
        operations(settings.num_operations_kept),
        highest_term(settings.stored_term) {}

  enum class Phase { kNew, kListening, kLeading, kSteppedDown };
  struct Session {
    std::string group;
    RankId rank;
  };

  void On(absl::Time now, const AgentMessageReceived& event, Effects& effects);
  void On(absl::Time now, const AgentDetached& event, Effects& effects);
  void On(absl::Time now, const RearrangeRequested& event, Effects& effects);
  void On(absl::Time now, const PlanComputed& event, Effects& effects);
  void On(absl::Time now, const CancelRequested& event, Effects& effects);
  void On(absl::Time now, const AdmitRequested& event, Effects& effects);
  void On(absl::Time now, const DrainRequested& event, Effects& effects);
  void On(absl::Time now, const PauseRequested& event, Effects& effects);
  void On(absl::Time now, const ResumeRequested& event, Effects& effects);
  void On(absl::Time now, const SetModeRequested& event, Effects& effects);
  void On(absl::Time now, const PinRequested& event, Effects& effects);
  void On(absl::Time now, const UnpinRequested& event, Effects& effects);
  void On(absl::Time, const Tick&, Effects&) {}

  // The group that an operator's request is for, or null: then the operation failed. Requires: its id is unknown.
  Group* GroupFor(OperationProgress asked, absl::Time now, Effects& effects);
  // Notes who asked for an operation, and who ended it. Nothing where nobody is known.
  void NoteAsked(std::string_view id, const std::string& by, const std::string& request, absl::Time now,
                 Effects& effects);
  void NoteEnded(std::string_view id, const std::string& by, absl::Time now, Effects& effects);
  // Has pauses, and operations of ranks that come or go, go on in `group`.
  void HandOver(Group& group) const;
  void Attached(absl::Time now, SessionId session, const Attach& attach, Effects& effects);
  absl::Status TakeIn(absl::Time now, SessionId session, const Attach& attach, Effects& effects);
  bool StepsDownFor(const Attach& attach, Effects& effects);
  void TakeTerm(absl::Time now, Effects& effects);
  void AdvanceGroups(absl::Time now, Effects& effects);
  void ForgetGroups(absl::Time now, Effects& effects);
  bool IsConfigured(std::string_view group) const;
  // Whether a group of this shape may take its place beside the others.
  absl::Status CheckRoom(const GroupInfo& info) const;
  void Refuse(SessionId session, absl::Status status, Effects& effects);
  const GroupSettings& SettingsOf(std::string_view group) const;
  absl::StatusOr<const Group*> FindGroup(std::string_view group) const;
  void AddGroup(const GroupInfo& info, absl::Time now);

  const CoordinatorSettings settings;
  Phase phase = Phase::kNew;
  absl::Time listen_end = absl::InfinitePast();
  Operations operations;
  uint32_t highest_term;  // stored or heard
  uint32_t term = 0;
  uint64_t next_plan_id = 1;
  absl::Time next_forgetting = absl::InfinitePast();
  // Groups whose agents may obey our term already.
  absl::btree_map<std::string, Group::Numbers, std::less<>> forgotten;
  absl::btree_map<std::string, std::unique_ptr<Group>, std::less<>> groups;
  absl::btree_map<SessionId, Session> sessions;
  absl::btree_map<std::string, Unfinished, std::less<>> plan_anew;  // by group
};

}  // namespace evenkeel::controller
