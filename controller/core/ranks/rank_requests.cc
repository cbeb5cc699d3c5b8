// SPDX-License-Identifier: Apache-2.0
#include "controller/core/ranks/rank_requests.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "algos/base/status_macros.h"
#include "controller/core/ranks/losses.h"

namespace evenkeel::controller {

namespace {

constexpr size_t kExpertsNamedMax = 16;

const RankChange* ChangeOf(const GroupState& group, RankId rank, Cause cause) {
  for (const RankChange& change : group.changes.open) {
    if (change.cause == cause && std::ranges::count(change.ranks, rank) > 0) return &change;
  }
  return nullptr;
}

std::string OperationOf(const GroupState& group, RankId rank, Cause cause) {
  const RankChange* change = ChangeOf(group, rank, cause);
  return change == nullptr ? "an operation that has ended" : absl::StrCat("operation ", change->operation_id);
}

absl::Status CheckRanks(const GroupState& group, const char* what, const std::vector<RankId>& ranks) {
  if (ranks.empty()) return absl::InvalidArgumentError(absl::StrCat(what, ": which ranks?"));
  const int ranks_max = group.info.shape.num_ranks;
  for (RankId rank : ranks) {
    if (rank.valid() && rank.value() < ranks_max) continue;
    return absl::InvalidArgumentError(absl::StrCat(what, ": rank ", rank.value(), " of group ", group.info.name,
                                                   ": it may have ", ranks_max, " ranks at most, 0 to ", ranks_max - 1,
                                                   " (ranks_max, set when it was created)"));
  }
  if (const std::string reason = group.StaticReason(); !reason.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(what, ": ", reason));
  }
  if (!group.formed) {
    return absl::FailedPreconditionError(
        absl::StrCat(what, ": group ", group.info.name, " is forming: not every rank has attached yet"));
  }
  return absl::OkStatus();
}

// Of the view, and nothing was heard of them for a lease when the strand looked last.
bool AllSilent(const GroupState& group, const std::vector<RankId>& ranks) {
  return !ranks.empty() && std::ranges::all_of(ranks, [&](RankId rank) {
    return rank.valid() && rank.value() < group.info.shape.num_ranks && group.members.at(rank).in_view() &&
           !group.members.at(rank).attached() &&
           group.evidence.IsSilent(rank, RulesOf(group.settings), group.evidence.looked());
  });
}

// Whether the ranks that stay could hold every expert of the layer.
absl::Status CheckRoom(const GroupState& group, LayerId layer, const std::vector<bool>& stays) {
  const algos::Shape& shape = group.info.shape;
  std::vector<bool> held(static_cast<size_t>(shape.num_experts), false);
  int room = 0;
  for (int s = 0; s < shape.num_slots(); ++s) {
    const SlotIdx at(s);
    if (!stays[shape.RankOf(at).idx()]) continue;
    const Slot& slot = group.slots.at(layer, at);
    room += slot.use != SlotUse::kCondemned;
    if (slot.use == SlotUse::kLive) held[slot.expert.idx()] = true;
  }
  if (room >= shape.num_experts) return absl::OkStatus();
  std::vector<size_t> without;
  for (size_t e = 0; e < held.size(); ++e) {
    if (!held[e]) without.push_back(e);
  }
  const size_t num_without = without.size();
  without.resize(std::min(num_without, kExpertsNamedMax));
  return absl::FailedPreconditionError(absl::StrCat(
      "drain: layer ", layer.value(), " would have ", room, " slots left for ", shape.num_experts,
      " experts: no room for ", shape.num_experts - room, " of those that these ranks alone hold, experts ",
      absl::StrJoin(without, ", "), num_without > kExpertsNamedMax ? ", ..." : ""));
}

const char* WordOf(Standing standing) {
  switch (standing) {
    case Standing::kAbsent:
      return "was never here";
    case Standing::kLost:
      return "was lost";
    case Standing::kLeft:
      return "has left";
    case Standing::kJoining:
    case Standing::kServing:
    case Standing::kDraining:
      break;
  }
  return "is a member";
}

OperationProgress Describe(const GroupState& group, Cause cause, std::string id, std::vector<RankId> ranks) {
  OperationProgress operation;
  operation.id = std::move(id);
  operation.group = group.info.name;
  operation.cause = cause;
  operation.ranks = std::move(ranks);
  operation.for_operator = true;
  return operation;
}

void Refuse(Planning planning, OperationProgress operation, const absl::Status& why, absl::Time now, Effects& effects) {
  operation.state = OperationState::kFailed;
  operation.detail = std::string(why.message());
  planning.operations.Begin(std::move(operation), now, effects);
}

std::vector<RankId> Sorted(std::vector<RankId> ranks) {
  std::ranges::sort(ranks);
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return ranks;
}

// What was to join leaves instead.
void TakeFromAdmissions(GroupState& group, RankId rank) {
  for (RankChange& change : group.changes.open) {
    if (change.cause == Cause::kAdmit) std::erase(change.ranks, rank);
  }
  group.changes.newcomers.erase(rank);
}

}  // namespace

absl::Status CheckAdmit(const GroupState& group, const AdmitRequested& request) {
  EVENKEEL_RETURN_IF_ERROR(CheckRanks(group, "admit", request.ranks));
  for (RankId rank : request.ranks) {
    const Standing standing = group.members.at(rank).standing;
    if (standing == Standing::kServing) {
      return absl::FailedPreconditionError(absl::StrCat("admit: rank ", rank.value(), " serves already"));
    }
    if (standing == Standing::kDraining) {
      return absl::FailedPreconditionError(
          absl::StrCat("admit: rank ", rank.value(), " is being drained by ", OperationOf(group, rank, Cause::kDrain)));
    }
    if (standing == Standing::kJoining || ChangeOf(group, rank, Cause::kAdmit) != nullptr) {
      return absl::FailedPreconditionError(absl::StrCat("admit: rank ", rank.value(), " is being taken in already, by ",
                                                        OperationOf(group, rank, Cause::kAdmit)));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckDrain(const GroupState& group, const DrainRequested& request) {
  if (AllSilent(group, request.ranks)) return absl::OkStatus();
  EVENKEEL_RETURN_IF_ERROR(CheckRanks(group, "drain", request.ranks));
  for (RankId rank : request.ranks) {
    const Standing standing = group.members.at(rank).standing;
    if (standing == Standing::kDraining) {
      return absl::FailedPreconditionError(absl::StrCat("drain: rank ", rank.value(), " is being drained already, by ",
                                                        OperationOf(group, rank, Cause::kDrain)));
    }
    if (!IsInView(standing)) {
      return absl::FailedPreconditionError(
          absl::StrCat("drain: rank ", rank.value(), " is no member: it ", WordOf(standing)));
    }
  }
  std::vector<bool> stays = group.members.AbsentRanks();
  stays.flip();
  for (RankId rank : request.ranks) stays[rank.idx()] = false;
  for (int l = 0; l < group.info.num_layers; ++l) EVENKEEL_RETURN_IF_ERROR(CheckRoom(group, LayerId(l), stays));
  return absl::OkStatus();
}

void Admit(Planning planning, const AdmitRequested& request, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  OperationProgress operation = Describe(group, Cause::kAdmit, request.operation_id, Sorted(request.ranks));
  if (const absl::Status status = CheckAdmit(group, request); !status.ok()) {
    return Refuse(planning, std::move(operation), status, now, effects);
  }
  RankChange change;
  change.operation_id = request.operation_id;
  change.cause = Cause::kAdmit;
  change.ranks = operation.ranks;
  planning.operations.Begin(std::move(operation), now, effects);
  group.changes.open.push_back(std::move(change));
}

void Drain(Planning planning, const DrainRequested& request, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  OperationProgress operation = Describe(group, Cause::kDrain, request.operation_id, Sorted(request.ranks));
  operation.grace = request.grace.value_or(group.settings.drain_grace);
  if (AllSilent(group, operation.ranks)) {
    // They hand nothing over. Only an operator can say that they are gone where rule 24 holds the controller back.
    for (RankId rank : operation.ranks) group.evidence.NoteGivenUp(rank);
    planning.operations.Begin(std::move(operation), now, effects);
    return planning.operations.Close(request.operation_id, OperationState::kDone,
                                     "nothing was heard of them: they are given up, and lost", now, effects);
  }
  if (const absl::Status status = CheckDrain(group, request); !status.ok()) {
    return Refuse(planning, std::move(operation), status, now, effects);
  }
  RankChange change;
  change.operation_id = request.operation_id;
  change.cause = Cause::kDrain;
  change.ranks = operation.ranks;
  change.grace = operation.grace;
  change.needs_plan = true;
  for (RankId rank : change.ranks) {
    TakeFromAdmissions(group, rank);
    group.members.SetStanding(rank, Standing::kDraining, now);
  }
  planning.operations.Begin(std::move(operation), now, effects);
  group.changes.open.push_back(std::move(change));
}

void CancelRankChange(Planning planning, const std::string& operation_id, absl::Time now, Effects& effects) {
  GroupState& group = planning.group;
  RankChange* change = group.changes.Find(operation_id);
  if (change == nullptr) return;
  change->cancelled = true;
  change->needs_plan = false;
  for (RankId rank : change->ranks) {
    MemberRecord& record = group.members.at(rank);
    if (change->cause == Cause::kDrain && record.standing == Standing::kDraining) {
      group.members.SetStanding(rank, record.held ? Standing::kJoining : Standing::kServing, now);
      if (record.held) group.changes.newcomers[rank] = group.publisher.view().number;
    }
  }
  // Those that are in the view come in all the same.
  std::erase_if(change->ranks, [&](RankId rank) { return group.members.at(rank).standing != Standing::kJoining; });
  planning.operations.Update(
      operation_id, now, [](OperationProgress& operation) { operation.cancel_requested = true; }, effects);
}

namespace {

void Resume(GroupState& group, const OperationProgress& operation, absl::Time now) {
  RankChange change;
  change.operation_id = operation.id;
  change.cause = operation.cause;
  change.grace = operation.grace;
  for (RankId rank : operation.ranks) {
    if (rank.value() >= group.info.shape.num_ranks) continue;  // a smaller group of that name
    const Standing standing = group.members.at(rank).standing;
    if (operation.cause == Cause::kAdmit) {
      change.ranks.push_back(rank);
      change.needs_plan |= standing == Standing::kServing;
    } else if (IsInView(standing)) {
      change.ranks.push_back(rank);
      group.members.SetStanding(rank, Standing::kDraining, now);
      change.needs_plan = true;
    } else {
      change.ranks.push_back(rank);
      group.members.SetStanding(rank, Standing::kLeft, now);
      group.changes.leaving[rank] = group.publisher.view().number;
    }
  }
  group.changes.open.push_back(std::move(change));
}

}  // namespace

void ResumeRankChanges(GroupState& group, const std::vector<OperationProgress>& operations,
                       const std::vector<RankId>& left, absl::Time now) {
  for (RankId rank : left) {
    if (rank.value() >= group.info.shape.num_ranks || group.members.at(rank).in_view()) continue;
    group.members.SetStanding(rank, Standing::kLeft, now);
  }
  for (const OperationProgress& operation : operations) Resume(group, operation, now);
}

}  // namespace evenkeel::controller
