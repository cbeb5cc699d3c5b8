// SPDX-License-Identifier: Apache-2.0
#include "controller/core/ranks/rank_changes.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "algos/base/check.h"
#include "controller/core/ranks/admission.h"

namespace evenkeel::controller {

namespace {

constexpr absl::Duration kPlanAgainAfter = absl::Seconds(1);

void PublishMembers(GroupState& group, Effects& effects) {
  group.publisher.PublishView({++group.highest_view, group.members.Members()}, group.members, effects);
}

std::string Listed(const std::vector<RankId>& ranks) {
  return absl::StrCat(
      ranks.size() == 1 ? "rank " : "ranks ",
      absl::StrJoin(ranks, ", ", [](std::string* out, RankId rank) { absl::StrAppend(out, rank.value()); }));
}

bool Stands(const GroupState& group, RankId rank, Standing standing) {
  return group.members.at(rank).standing == standing;
}

// ---- Joining

bool IsWanted(const GroupState& group, RankId rank) {
  if (group.changes.leaving.contains(rank)) return false;
  for (const RankChange& change : group.changes.open) {
    const bool named = std::ranges::count(change.ranks, rank) > 0;
    if (named && change.cause == Cause::kDrain) return false;
    if (named && !change.cancelled) return true;
  }
  return Stands(group, rank, Standing::kLost) ? group.settings.auto_rejoin || group.settings.auto_admit
                                              : group.settings.auto_admit;
}

// The engine that stood for the rank before is not spoken with any longer.
void Dismiss(GroupState& group, RankId rank, absl::Time now, Effects& effects) {
  const MemberRecord& before = group.members.at(rank);
  if (!before.attached()) return;
  const SessionId session = *before.session;
  effects.push_back(
      SendToAgent{session, Refused{absl::FailedPreconditionError(absl::StrCat(
                               "rank ", rank.value(), " incarnation ", before.member.incarnation, " was replaced"))}});
  effects.push_back(CloseSession{session});
  group.members.Detach(session, now);
}

void TakeIn(Planning planning, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  if (!group.MayPublish()) return;
  std::vector<RankId> taken, unasked;
  for (const auto& [rank, waiter] : group.members.waiters()) {
    const bool fits = !waiter.attach.suspended && waiter.attach.group.weights_version == group.info.weights_version;
    if (fits && !IsInView(group.members.at(rank).standing) && IsWanted(group, rank)) taken.push_back(rank);
  }
  if (taken.empty()) return;
  for (RankId rank : taken) {
    Dismiss(group, rank, now, effects);
    AdmitNewcomer(group, *group.members.TakeWaiter(rank), now, effects);
    group.changes.newcomers[rank] = group.highest_view + 1;
    const bool asked = std::ranges::any_of(
        group.changes.open, [&](const RankChange& change) { return std::ranges::count(change.ranks, rank) > 0; });
    if (!asked) unasked.push_back(rank);
  }
  PublishMembers(group, effects);
  effects.push_back(Note{group.info.name, absl::StrCat(Listed(taken), " joined: view ", group.highest_view)});
  if (unasked.empty()) return;
  OperationProgress operation;
  operation.id = OwnId(planning);
  operation.group = group.info.name;
  operation.cause = Cause::kAdmit;
  operation.ranks = unasked;
  RankChange change;
  change.operation_id = operation.id;
  change.ranks = unasked;
  group.changes.open.push_back(std::move(change));
  planning.operations.Begin(std::move(operation), now, effects);
}

// Those that all others have accepted learn the view, and get their first maps.
void TellNewcomers(GroupState& group, Effects& effects) {
  for (const auto& [rank, view] : group.changes.newcomers) {
    MemberRecord& record = group.members.at(rank);
    if (!record.held || !record.attached() || group.members.FirstNotQuiesced(Epoch(), view).has_value()) continue;
    record.held = false;
    group.publisher.Greet(record, Attach(), effects);
  }
}

void LetServe(GroupState& group, absl::Time now, Effects& effects) {
  std::vector<RankId> serve;
  for (const auto& [rank, view] : group.changes.newcomers) {
    const MemberRecord& record = group.members.at(rank);
    const bool has_maps = !record.held && record.quiesced_epoch.term == group.term && record.quiesced_epoch.number > 0;
    if (has_maps && !group.members.FirstNotQuiesced(Epoch(), view).has_value()) serve.push_back(rank);
  }
  if (serve.empty()) return;
  for (RankId rank : serve) {
    group.members.SetStanding(rank, Standing::kServing, now);
    group.slots.SetBarred(rank, false);
    group.changes.newcomers.erase(rank);
    for (RankChange& change : group.changes.open) {
      if (change.cause == Cause::kAdmit && std::ranges::count(change.ranks, rank) > 0) change.needs_plan = true;
    }
  }
  effects.push_back(Note{group.info.name, absl::StrCat(Listed(serve), serve.size() == 1 ? " serves" : " serve")});
}

// ---- Leaving

// No map names its slots, nothing is copied from them or into them.
bool IsEmpty(const GroupState& group, RankId rank, absl::Time now) {
  const algos::Shape& shape = group.info.shape;
  for (int l = 0; l < group.info.num_layers; ++l) {
    for (int local = 0; local < shape.slots_per_rank; ++local) {
      const SlotIdx at = shape.SlotAt(rank, local);
      if (group.slots.at(LayerId(l), at).use == SlotUse::kLive) return false;
      if (group.orders.Find(LayerId(l), at) != nullptr || group.orders.IsRead(LayerId(l), at, now)) return false;
    }
  }
  return true;
}

void FindEmptied(GroupState& group, absl::Time now) {
  for (const RankChange& change : group.changes.open) {
    if (change.cause != Cause::kDrain) continue;
    for (RankId rank : change.ranks) {
      if (!Stands(group, rank, Standing::kDraining)) continue;
      if (!IsEmpty(group, rank, now)) {
        group.changes.emptied.erase(rank);
      } else if (!group.changes.emptied.contains(rank)) {
        group.changes.emptied[rank] = {now, group.publisher.epoch(), now + change.grace};
      }
    }
  }
}

bool MayLeave(const GroupState& group, RankId rank, const Emptied& emptied, absl::Time now) {
  if (group.members.FirstNotQuiesced(emptied.epoch, 0).has_value()) return false;
  return group.members.Gone(rank) || group.members.at(rank).engine.idle || emptied.grace_end <= now;
}

void LetLeave(GroupState& group, absl::Time now, Effects& effects) {
  std::vector<RankId> leave;
  for (const auto& [rank, emptied] : group.changes.emptied) {
    if (MayLeave(group, rank, emptied, now)) leave.push_back(rank);
  }
  if (leave.empty()) return;
  for (RankId rank : leave) {
    group.members.SetStanding(rank, Standing::kLeft, now);
    group.slots.Reset(rank);
    group.changes.emptied.erase(rank);
    group.changes.leaving[rank] = group.highest_view + 1;
  }
  PublishMembers(group, effects);
  effects.push_back(Note{group.info.name, absl::StrCat(Listed(leave), " left: view ", group.highest_view)});
}

void FindLeft(GroupState& group) {
  absl::erase_if(group.changes.leaving,
                 [&](const auto& entry) { return !group.members.FirstNotQuiesced(Epoch(), entry.second).has_value(); });
  for (RankChange& change : group.changes.open) {
    if (change.cause != Cause::kDrain) continue;
    std::erase_if(change.ranks, [&](RankId rank) {
      return !IsInView(group.members.at(rank).standing) && !group.changes.leaving.contains(rank);
    });
  }
}

// What was lost on its way is not on it any more.
void FollowLosses(GroupState& group) {
  absl::erase_if(group.changes.newcomers,
                 [&](const auto& entry) { return !Stands(group, entry.first, Standing::kJoining); });
  absl::erase_if(group.changes.emptied,
                 [&](const auto& entry) { return !Stands(group, entry.first, Standing::kDraining); });
}

// ---- Operations

bool IsUnderWay(const GroupState& group, const RankChange& change) {
  if (group.running.has_value() && group.running->id == change.operation_id) return true;
  return std::ranges::any_of(group.plans,
                             [&](const auto& entry) { return entry.second.operation_id == change.operation_id; });
}

void PlanForChanges(Planning planning, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  for (RankChange& change : group.changes.open) {
    if (change.cause == Cause::kDrain && !change.cancelled && !change.needs_plan && !IsUnderWay(group, change)) {
      // Overtaken, or not all of it succeeded.
      change.needs_plan = std::ranges::any_of(change.ranks, [&](RankId rank) {
        return Stands(group, rank, Standing::kDraining) && !group.changes.emptied.contains(rank) &&
               !IsEmpty(group, rank, now);
      });
      if (change.needs_plan) change.plan_after = now + kPlanAgainAfter;
    }
    if (!change.needs_plan || now < change.plan_after || IsUnderWay(group, change)) continue;
    if (change.cause == Cause::kAdmit && OperatorRearranges(group)) continue;
    // One plan at a time is for ranks that change; it knows of all of them.
    const bool other = std::ranges::any_of(group.changes.open, [&](const RankChange& o) {
      return &o != &change && o.cause == change.cause && IsUnderWay(group, o);
    });
    if (other && change.cause == Cause::kAdmit) continue;
    change.needs_plan = false;
    change.failure.clear();
    PlanForRanks(planning, change, now, effects);
  }
}

std::string WhatItWaitsFor(const GroupState& group, RankId rank, absl::Time now) {
  const auto slow = [&](Epoch epoch, uint64_t view) -> std::string {
    const std::optional<RankId> late = group.members.FirstNotQuiesced(epoch, view);
    return late.has_value() ? absl::StrCat("rank ", late->value(), " has not quiesced there yet") : "";
  };
  const MemberRecord& record = group.members.at(rank);
  switch (record.standing) {
    case Standing::kAbsent:
    case Standing::kLost:
      return group.members.waiters().contains(rank) ? "its engine waits to be taken in" : "its engine has not come";
    case Standing::kLeft: {
      const auto leaving = group.changes.leaving.find(rank);
      if (leaving != group.changes.leaving.end()) {
        return absl::StrCat("left with view ", leaving->second, "; ", slow(Epoch(), leaving->second));
      }
      return group.members.waiters().contains(rank) ? "another engine of it waits to be taken in" : "";
    }
    case Standing::kJoining: {
      const auto newcomer = group.changes.newcomers.find(rank);
      if (newcomer == group.changes.newcomers.end()) return "";
      if (!record.attached()) return "its agent is away";
      return record.held ? absl::StrCat("joined with view ", newcomer->second, "; ", slow(Epoch(), newcomer->second))
                         : "takes its first maps";
    }
    case Standing::kDraining: {
      const auto emptied = group.changes.emptied.find(rank);
      if (emptied == group.changes.emptied.end()) return "is being emptied";
      const std::string late = slow(emptied->second.epoch, 0);
      if (!late.empty()) return absl::StrCat("is empty; ", late);
      return emptied->second.grace_end > now ? "is empty; its engine may end what it does" : "is empty";
    }
    case Standing::kServing:
      break;
  }
  if (record.suspended) return "is suspended: its weights change";
  if (!group.weights.text.empty()) {
    return absl::StrCat("has weights version ", record.weights_version.value_or(0));
  }
  return "";
}

std::string DetailOf(const GroupState& group, const RankChange& change, absl::Time now) {
  for (RankId rank : change.ranks) {
    const std::string waits = WhatItWaitsFor(group, rank, now);
    if (!waits.empty()) return absl::StrCat("rank ", rank.value(), " ", waits);
  }
  return absl::StrCat(Listed(change.ranks), change.ranks.size() == 1 ? " serves and is" : " serve and are",
                      " being filled");
}

void Close(Planning planning, const RankChange& change, absl::Time now, Effects& effects) {
  const OperationProgress* known = planning.operations.Find(change.operation_id);
  if (known == nullptr) return;
  const bool admit = change.cause == Cause::kAdmit;
  std::vector<RankId> lost;
  for (RankId rank : known->ranks) {
    if (Stands(planning.group, rank, Standing::kLost)) lost.push_back(rank);
  }
  OperationState state = OperationState::kDone;
  std::string detail = absl::StrCat(Listed(known->ranks), admit ? ": serving; " : ": safe to terminate; ",
                                    known->num_moves_done, " moves, ", known->num_moves_failed, " retried");
  if (!lost.empty()) absl::StrAppend(&detail, "; ", Listed(lost), lost.size() == 1 ? " was lost" : " were lost");
  if (change.cancelled) {
    state = OperationState::kCancelled;
    detail = absl::StrCat("cancelled after ", known->num_moves_done, " moves");
  } else if (admit && !change.failure.empty()) {
    state = OperationState::kFailed;
    detail = absl::StrCat(Listed(known->ranks), " serve, but were not filled as planned: ", change.failure);
  }
  planning.operations.Close(change.operation_id, state, std::move(detail), now, effects);
}

void CloseChanges(Planning planning, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  std::erase_if(group.changes.open, [&](const RankChange& change) {
    const bool there = std::ranges::all_of(change.ranks, [&](RankId rank) {
      return change.cause == Cause::kAdmit && Stands(group, rank, Standing::kServing);
    });
    if (there && !change.needs_plan && !IsUnderWay(group, change)) {
      Close(planning, change, now, effects);
      return true;
    }
    planning.operations.Update(
        change.operation_id, now,
        [&](OperationProgress& operation) {
          operation.state = OperationState::kRunning;
          operation.detail =
              change.cancelled ? "cancelled: what is under way ends first" : DetailOf(group, change, now);
        },
        effects);
    return false;
  });
}

void SetWakeup(GroupState& group, absl::Time now) {
  absl::Time& next = group.changes.next_wakeup;
  next = absl::InfiniteFuture();
  for (const auto& [rank, emptied] : group.changes.emptied) {
    if (emptied.grace_end > now) next = std::min(next, emptied.grace_end);
  }
  for (const RankChange& change : group.changes.open) {
    if (change.needs_plan && change.plan_after > now) next = std::min(next, change.plan_after);
  }
}

}  // namespace

void AdvanceRanks(Planning planning, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  FollowLosses(group);
  TellNewcomers(group, effects);
  LetServe(group, now, effects);
  if (!group.slots.dirty()) FindEmptied(group, now);
  LetLeave(group, now, effects);
  FindLeft(group);
  PlanForChanges(planning, now, effects);
  CloseChanges(planning, now, effects);
  TakeIn(planning, now, effects);
  SetWakeup(group, now);
}

MembershipStatus ReportMembership(const GroupState& group, absl::Time now) {
  const algos::Shape& shape = group.info.shape;
  MembershipStatus status{.group = group.info.name,
                          .term = group.term,
                          .forming = !group.formed,
                          .view_number = group.publisher.view().number,
                          .num_slots_of_rank = group.info.num_layers * shape.slots_per_rank};
  for (int r = 0; r < shape.num_ranks; ++r) {
    const RankId rank(r);
    const MemberRecord& record = group.members.at(rank);
    RankStatus out{.rank = rank,
                   .standing = record.standing,
                   .incarnation = record.member.incarnation,
                   .attached = record.attached(),
                   .alive = record.known() && record.engine.alive,
                   .waiting = group.members.waiters().contains(rank),
                   .since = record.stood};
    for (int l = 0; l < group.info.num_layers; ++l) {
      for (int local = 0; local < shape.slots_per_rank; ++local) {
        out.num_slots_live += group.slots.at(LayerId(l), shape.SlotAt(rank, local)).use == SlotUse::kLive;
      }
    }
    out.safe_to_terminate = record.standing == Standing::kLeft && !group.changes.leaving.contains(rank);
    out.note = WhatItWaitsFor(group, rank, now);
    for (const RankChange& change : group.changes.open) {
      if (std::ranges::count(change.ranks, rank) == 0) continue;
      out.operation = change.operation_id;
      break;
    }
    out.weights_version = record.weights_version.value_or(0);
    out.suspended = record.suspended;
    const bool is_told = out.waiting || record.standing == Standing::kJoining || !group.weights.text.empty();
    if (out.operation.empty() && !is_told) out.note.clear();
    status.ranks.push_back(std::move(out));
  }
  return status;
}

}  // namespace evenkeel::controller
