// SPDX-License-Identifier: Apache-2.0
//
// What agents say to a Group.
#include <algorithm>
#include <variant>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "controller/core/group.h"
#include "controller/core/planning/guard_watch.h"
#include "controller/core/ranks/admission.h"
#include "controller/core/ranks/weights.h"

namespace evenkeel::controller {

namespace {

// Until the member is expelled or another engine takes its place.
Alerts::Lasts StaysEnded(const Member& member) {
  return [member](const GroupState& group) {
    const MemberRecord& record = group.members.at(member.rank);
    return record.member == member && record.in_view() && !record.engine.alive;
  };
}

}  // namespace

absl::Status Group::OnMessage(SessionId session, RankId rank, const AgentMessage& message, absl::Time now,
                              Effects& effects) {
  MemberRecord& member = state_->members.at(rank);
  if (member.session != session) return absl::OkStatus();
  // One that was a member: nothing depends on it.
  if (!member.in_view() && !std::holds_alternative<EngineStatus>(message)) return absl::OkStatus();
  state_->evidence.Hear(rank, now);
  state_->clock = now;
  // While a term is not taken only what changes the inventory counts; all else is told again after Welcome.
  if (state_->term == 0 && !std::holds_alternative<SlotLost>(message)) return absl::OkStatus();
  return std::visit([&](const auto& body) { return On(member, body, now, effects); }, message);
}

absl::Status Group::On(MemberRecord& member, const Attach&, absl::Time, Effects&) {
  return absl::InvalidArgumentError(absl::StrCat("rank ", member.member.rank.value(), " attached twice on one stream"));
}

absl::Status Group::On(MemberRecord& member, const Quiesced& message, absl::Time, Effects& effects) {
  const RankId rank = member.member.rank;
  if (message.epoch < member.quiesced_epoch) return absl::OkStatus();  // stale
  if (!state_->publisher.Acknowledges(message.epoch, message.maps_digest)) {
    if (message.epoch > state_->publisher.epoch()) {
      return absl::FailedPreconditionError(absl::StrCat("rank ", rank.value(), " quiesced at epoch ",
                                                        message.epoch.ToString(), ", which was never published"));
    }
    state_->Alert(absl::StrCat("rank ", rank.value(), " quiesced at epoch ", message.epoch.ToString(),
                               " with other maps than were published"),
                  nullptr, effects);
    return absl::OkStatus();
  }
  state_->publisher.Accept(rank, message.epoch);
  state_->members.NoteQuiesced(rank, message.epoch, message.view_number);
  state_->publisher.Forget(state_->members.OldestQuiesced());
  needs_advance_ = true;
  return absl::OkStatus();
}

absl::Status Group::On(MemberRecord& member, const MapsRefused& message, absl::Time now, Effects& effects) {
  ++state_->totals.maps_refused;
  effects.push_back(Note{state_->info.name, absl::StrCat("rank ", member.member.rank.value(), " refused maps at epoch ",
                                                         message.epoch.ToString(), ": ", message.reason)});
  state_->publisher.Refuse(member, message, now, effects);
  needs_advance_ = true;
  return absl::OkStatus();
}

absl::Status Group::On(MemberRecord& member, const LoadReport& message, absl::Time now, Effects&) {
  if (!KeepsLoad(state_->mode)) return absl::OkStatus();
  const absl::Status added = state_->loads.Add(member.member.rank, message, now);
  NoteEngineTokens(*state_);
  needs_advance_ |= state_->loads.HasClosed();
  return added;
}

absl::Status Group::On(MemberRecord& member, const EngineStatus& message, absl::Time now, Effects& effects) {
  const bool ended = member.engine.alive && !message.alive;
  needs_advance_ |= state_->changes.emptied.contains(member.member.rank);  // which waits for it to be idle
  const RankId rank = member.member.rank;
  if (member.in_view()) {
    state_->evidence.HearStatus(rank, message, now);
    if (!message.alive) state_->evidence.NoteEnded(rank, rank, now);
    if (message.leaving) state_->evidence.NoteLeaving(rank, now);
    if (message.suspended) NoteSuspended(*state_, member, now, effects);
    needs_advance_ |= message.suspended;
    needs_advance_ |= !message.alive || message.leaving || !message.waiting_for.empty();
  }
  NoteEngineSteps(*state_, member, message);
  member.engine = message;
  state_->step_times.Add(message.mean_step_time);
  if (!ended) return absl::OkStatus();
  state_->Alert(absl::StrCat("the engine of rank ", member.member.rank.value(), " has ended"),
                StaysEnded(member.member), effects);
  AdmitWaiters(now, effects);
  needs_advance_ = true;
  return absl::OkStatus();
}

namespace {

// Locks are seen on their own host alone. Where a rank names no host, it may be any.
bool MayShareHost(const MemberRecord& one, const MemberRecord& other) {
  if (one.endpoints.empty() || other.endpoints.empty()) return true;
  return one.endpoints.front().host == other.endpoints.front().host;
}

}  // namespace

absl::Status Group::On(MemberRecord& member, const PeerEnded& message, absl::Time now, Effects& effects) {
  const RankId rank = message.member.rank;
  MemberRecord& peer = state_->members.at(rank);
  if (peer.member != message.member || !peer.engine.alive || !peer.in_view()) return absl::OkStatus();
  if (!MayShareHost(member, peer)) return absl::OkStatus();
  state_->evidence.NoteEnded(member.member.rank, rank, now);
  peer.engine.alive = false;
  state_->Alert(absl::StrCat("the engine of rank ", rank.value(), " has ended, says the agent of rank ",
                             member.member.rank.value()),
                StaysEnded(peer.member), effects);
  needs_advance_ = true;
  return absl::OkStatus();
}

absl::Status Group::On(MemberRecord& member, const EndpointsChanged& message, absl::Time, Effects&) {
  member.endpoints = message.endpoints;
  state_->restores.SourcesChanged();
  needs_advance_ = true;
  return absl::OkStatus();
}

absl::Status Group::CheckOwnSlot(const MemberRecord& member, LayerId layer, SlotIdx slot) const {
  const algos::Shape& shape = state_->info.shape;
  if (layer.valid() && layer.value() < state_->info.num_layers && slot.valid() && slot.value() < shape.num_slots() &&
      shape.RankOf(slot) == member.member.rank) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("rank ", member.member.rank.value(), " spoke of slot ", slot.value(),
                                                 " of layer ", layer.value(), ", which is not its own"));
}

absl::Status Group::On(MemberRecord& member, const MoveFinished& message, absl::Time now, Effects& effects) {
  EVENKEEL_RETURN_IF_ERROR(CheckOwnSlot(member, message.layer, message.slot));
  const SlotTable::Outcome outcome =
      state_->slots.Finish(message.layer, message.slot, message.generation, message.fingerprint);
  // Also those that the agent made good from another source.
  const int num_corrupt = outcome == SlotTable::Outcome::kNothing
                              ? 0
                              : message.num_mismatches + (outcome == SlotTable::Outcome::kFailed ? 1 : 0);
  state_->totals.fingerprint_failures += static_cast<uint64_t>(num_corrupt);
  TakeOutcome(*state_, message.layer, message.slot, outcome,
              {.layer = message.layer, .slot = message.slot, .num_corrupt = num_corrupt, .bytes = message.bytes}, now,
              effects);
  needs_advance_ = true;
  return absl::OkStatus();
}

absl::Status Group::On(MemberRecord& member, const MoveFailed& message, absl::Time now, Effects& effects) {
  EVENKEEL_RETURN_IF_ERROR(CheckOwnSlot(member, message.layer, message.slot));
  const bool corrupt = absl::IsDataLoss(message.status);
  const SlotTable::Outcome outcome = state_->slots.Fail(message.layer, message.slot, message.generation,
                                                        {.content_kept = message.content_kept, .mismatch = corrupt});
  if (outcome == SlotTable::Outcome::kNothing) return absl::OkStatus();
  const int num_corrupt = std::max(message.num_mismatches, corrupt ? 1 : 0);
  state_->totals.fingerprint_failures += static_cast<uint64_t>(num_corrupt);
  TakeOutcome(*state_, message.layer, message.slot, outcome,
              {.layer = message.layer,
               .slot = message.slot,
               .num_corrupt = num_corrupt,
               .source = message.source,
               .text = absl::StrCat("move into slot ", message.slot.value(), " of layer ", message.layer.value(), ": ",
                                    message.status.message())},
              now, effects);
  needs_advance_ = true;
  return absl::OkStatus();
}

absl::Status Group::On(MemberRecord& member, const SlotLost& message, absl::Time now, Effects& effects) {
  EVENKEEL_RETURN_IF_ERROR(CheckOwnSlot(member, message.layer, message.slot));
  const SlotTable::Outcome outcome = state_->slots.Lose(message.layer, message.slot, message.generation);
  if (outcome != SlotTable::Outcome::kNothing) ++state_->totals.fingerprint_failures;
  TakeOutcome(*state_, message.layer, message.slot, outcome, {.layer = message.layer, .slot = message.slot}, now,
              effects);
  needs_advance_ = true;
  return absl::OkStatus();
}

}  // namespace evenkeel::controller
