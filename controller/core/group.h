// SPDX-License-Identifier: Apache-2.0
//
// Group: one expert-parallel set of ranks under this controller, from the first Attach on.
//
// It forms once every rank of the world is attached under the term, then publishes a view and maps, keeps shares right
// (fast loop) and placements (slow loop), and carries out rearrangements. Everything that maps say goes through Publish.
// Engines started anew wait outside the set; when the whole world was replaced, the group starts over with it.
//
// Threads:   none. Owned by Coordinator.
// Order:     after each event, and when NextWakeup is reached, Advance is to be called.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

#include "controller/core/event.h"
#include "controller/core/group_state.h"
#include "controller/core/operations.h"
#include "controller/core/planning/load_history.h"

namespace evenkeel::controller {

class Group {
 public:
  // A world whose members were all silent for this long may be replaced by one of another kind.
  static constexpr absl::Duration kForgetAfter = absl::Seconds(30);

  // `operations` and `next_plan_id` belong to the coordinator. `term` 0: not taken yet.
  Group(const GroupInfo& info, const GroupSettings& settings, uint32_t term, Operations& operations,
        uint64_t& next_plan_id, absl::Time now);

  void TakeTerm(uint32_t term, Effects& effects);
  // An operation of the controller before was under way: plan anew as soon as there is load.
  void PlanAnew(Unfinished unfinished) { unfinished_ = std::move(unfinished); }
  // Likewise, of ranks that come or go: it goes on.
  void GoOn(OperationProgress rank_change) { rank_changes_.push_back(std::move(rank_change)); }
  // What controllers before have counted, of any groups.
  void RestoreLoads(std::span<const LoadHistory> stored, absl::Time now);
  // Likewise, of a pause.
  void StayPaused(Pause pause) { state_->pause = std::move(pause); }
  // Likewise, of a mode, and of pins.
  void StayIn(Mode mode, std::string set_by);
  void StayPinned(std::vector<StandingPins> pins);
  // Ranks that were drained and not admitted again, by the operations of controllers before.
  void KnowLeft(std::vector<RankId> ranks) { left_before_ = std::move(ranks); }
  // Whether this member was ever welcomed by this controller.
  bool Welcomed(const Member& member) const { return welcomed_.contains(member); }

  // Not OK: to be refused. Requires: CheckAttach is OK.
  absl::Status OnAttach(SessionId session, const Attach& attach, absl::Time now, Effects& effects);
  void OnDetach(SessionId session, absl::Time now, Effects& effects);
  // Not OK: the agent broke the protocol and is to be refused. Messages of sessions that wait are ignored.
  absl::Status OnMessage(SessionId session, RankId rank, const AgentMessage& message, absl::Time now, Effects& effects);
  void OnRearrange(const RearrangeRequested& request, absl::Time now, Effects& effects);
  void OnAdmit(const AdmitRequested& request, absl::Time now, Effects& effects);
  void OnDrain(const DrainRequested& request, absl::Time now, Effects& effects);
  void OnPause(const PauseRequested& request, absl::Time now, Effects& effects);
  void OnResume(absl::Time now, Effects& effects);
  void OnSetMode(const SetModeRequested& request, absl::Time now, Effects& effects);
  void OnPin(const PinRequested& request, absl::Time now, Effects& effects);
  void OnUnpin(const std::string& operation_id, absl::Time now, Effects& effects);
  void OnCancel(const std::string& operation_id, absl::Time now, Effects& effects);
  bool OnPlan(const PlanComputed& plan, absl::Time now, Effects& effects);

  void Advance(absl::Time now, Effects& effects);
  // Status, and load that completes no window, change nothing that waits: Advance may be left until NextWakeup.
  bool needs_advance() const { return needs_advance_; }
  absl::Time NextWakeup() const { return next_wakeup_; }

  const GroupState& state() const { return *state_; }
  uint64_t bytes() const { return bytes_; }

  // What must go on from there where a group of the same name follows in the same term: its agents obey it already.
  struct Numbers {
    Epoch epoch;
    uint64_t highest_view = 0;
    uint64_t next_move_id = 0;
    uint64_t num_operations = 0;
  };
  Numbers numbers() const;
  // Requires: nothing was published or ordered yet.
  void ContinueFrom(const Numbers& numbers);

  // Since when no agent is attached and nothing is planned or under way; InfiniteFuture while it is otherwise.
  absl::Time IdleSince() const;

 private:
  absl::Status On(MemberRecord& member, const Quiesced& message, absl::Time now, Effects& effects);
  absl::Status On(MemberRecord& member, const MapsRefused& message, absl::Time now, Effects& effects);
  absl::Status On(MemberRecord& member, const LoadReport& message, absl::Time now, Effects& effects);
  absl::Status On(MemberRecord& member, const EngineStatus& message, absl::Time now, Effects& effects);
  absl::Status On(MemberRecord& member, const MoveFinished& message, absl::Time now, Effects& effects);
  absl::Status On(MemberRecord& member, const MoveFailed& message, absl::Time now, Effects& effects);
  absl::Status On(MemberRecord& member, const SlotLost& message, absl::Time now, Effects& effects);
  absl::Status On(MemberRecord& member, const PeerEnded& message, absl::Time now, Effects& effects);
  absl::Status On(MemberRecord& member, const EndpointsChanged& message, absl::Time now, Effects& effects);
  absl::Status On(MemberRecord& member, const Attach& message, absl::Time now, Effects& effects);

  absl::Status CheckOwnSlot(const MemberRecord& member, LayerId layer, SlotIdx slot) const;
  bool MayBeReplaced(absl::Time now) const;
  void StartOver(const GroupInfo& info, absl::Time now);
  bool AllFirstRanksWait() const;
  void AdmitWaiters(absl::Time now, Effects& effects);
  void CloseOperations(const std::string& why, absl::Time now, Effects& effects);
  void AfterForming(absl::Time now);
  // Shares of layers whose live slots stay, where solving them anew is worth it.
  Publisher::LayerMaps SharesIfDue(absl::Time now);
  // The one place where maps are published.
  void Publish(Publisher::LayerMaps improved, absl::Time now, Effects& effects);
  void SetWakeup(absl::Time now);

  const GroupSettings settings_;
  const absl::Time made_;
  Operations& operations_;
  uint64_t& next_plan_id_;
  std::unique_ptr<GroupState> state_;
  uint64_t bytes_;  // GroupBytes of its present shape
  absl::btree_set<Member> welcomed_;
  std::optional<Unfinished> unfinished_;
  // Of controllers before, until the group has formed.
  std::vector<OperationProgress> rank_changes_;
  std::vector<RankId> left_before_;
  bool windows_closed_ = false;  // since the fast loop last looked
  bool needs_advance_ = true;
  absl::Time next_wakeup_ = absl::InfinitePast();
};

}  // namespace evenkeel::controller
