// SPDX-License-Identifier: Apache-2.0
#include "controller/core/ranks/admission.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "controller/core/ranks/weights.h"

namespace evenkeel::controller {

namespace {

constexpr size_t kNameBytesMax = 256;
// Terms, views and generations are counted on from what agents say: the last ones are never real.
constexpr uint32_t kTermMax = UINT32_MAX - 1;
constexpr uint64_t kNumberMax = UINT64_MAX / 2;

template <typename T>
absl::Status CheckSame(const char* what, const T& group, const T& other) {
  if (group == other) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("attach: ", what, " ", other, ", but the group has ", group));
}

// Orders of earlier terms that still write: only their agent can say how they end.
void CancelOrphans(GroupState& group, const MemberRecord& member, Effects& effects) {
  const algos::Shape& shape = group.info.shape;
  for (int l = 0; l < group.info.num_layers; ++l) {
    for (int local = 0; local < shape.slots_per_rank; ++local) {
      const SlotIdx at = shape.SlotAt(member.member.rank, local);
      const Slot& slot = group.slots.at(LayerId(l), at);
      if (slot.use != SlotUse::kWriting || slot.move_id != 0) continue;
      effects.push_back(SendToAgent{*member.session, CancelMove{0, LayerId(l), at, slot.generation}});
    }
  }
}

void TakeInventory(GroupState& group, const Attach& attach, absl::Time now, Effects& effects) {
  const algos::Shape& shape = group.info.shape;
  for (int l = 0; l < group.info.num_layers; ++l) {
    for (int local = 0; local < shape.slots_per_rank; ++local) {
      const LayerId layer(l);
      const SlotIdx slot = shape.SlotAt(attach.member.rank, local);
      const SlotRecord& record = attach.slots[static_cast<size_t>(l * shape.slots_per_rank + local)];
      const SlotTable::Outcome outcome = group.slots.Confirm(layer, slot, record);
      TakeOutcome(group, layer, slot, outcome, {.layer = layer, .slot = slot}, now, effects);
    }
  }
}

bool Contains(const View& view, const Member& member) { return std::ranges::binary_search(view.members, member); }

void ForgetMember(GroupState& group, RankId rank, absl::Time now) {
  group.members.at(rank) = MemberRecord();
  group.slots.Reset(rank);
  group.loads.Restart(rank);
  group.evidence.Forget(rank, now);
}

// Until the group has formed under this term, the newest view that any agent knows says who its members are.
void LearnView(GroupState& group, const View& view, absl::Time now, Effects& effects) {
  if (group.formed || view.members.empty() || view.number <= group.told_view.number) return;
  group.told_view = view;
  // Also where whoever tells it is refused: the view that the group forms with comes after it.
  group.highest_view = std::max(group.highest_view, view.number);
  for (int r = 0; r < group.info.shape.num_ranks; ++r) {
    const RankId rank(r);
    const MemberRecord& record = group.members.at(rank);
    const auto found = std::ranges::find(view.members, rank, &Member::rank);
    if (found == view.members.end()) {
      if (!record.in_view()) continue;
      // It came before the view was known: it waits when it comes again, or is refused.
      if (record.attached()) effects.push_back(CloseSession{*record.session});
      if (record.known()) ForgetMember(group, rank, now);
      group.members.SetStanding(rank, r < group.info.num_first_ranks() ? Standing::kLost : Standing::kAbsent, now);
    } else if (record.member == *found) {
      if (!record.in_view()) group.members.SetStanding(rank, Standing::kServing, now);
    } else {
      if (record.attached()) effects.push_back(CloseSession{*record.session});  // it waits when it comes again
      group.members.Expect(*found, now);
      group.slots.Reset(rank);
      group.loads.Restart(rank);
      group.evidence.Forget(rank, now);
    }
  }
}

// A member that was expelled without this controller's knowing more of it than the view that lacks it.
absl::Status RefuseExpelled(const GroupState& group, SessionId session, const Attach& attach, Effects& effects) {
  const View& newest = group.formed ? group.publisher.view() : group.told_view;
  const bool was_member = attach.view.number > 0 && attach.view.number <= newest.number;
  if (!was_member || Contains(newest, attach.member)) return absl::OkStatus();
  if (group.members.at(attach.member.rank).member == attach.member) return absl::OkStatus();
  if (group.term > 0) {
    effects.push_back(SendToAgent{session, Welcome{group.term, group.settings.agent}});
    effects.push_back(SendToAgent{session, ViewUpdate{newest}});
  }
  return absl::FailedPreconditionError(absl::StrCat("attach rank ", attach.member.rank.value(), " incarnation ",
                                                    attach.member.incarnation, ": view ", newest.number,
                                                    " is without it; its engine must be started anew to come back"));
}

void Greet(GroupState& group, const MemberRecord& member, const Attach& attach, Effects& effects) {
  effects.push_back(SendToAgent{*member.session, Welcome{group.term, group.settings.agent}});
  if (group.slots.dirty()) {
    group.publisher.GreetWithoutMaps(member, effects);  // what it lost is about to leave the maps
  } else {
    group.publisher.Greet(member, attach, effects);
  }
}

}  // namespace

absl::Status CheckAttach(const Attach& attach) {
  const GroupInfo& info = attach.group;
  EVENKEEL_RETURN_IF_ERROR(algos::Validate(info.shape));
  if (info.name.empty() || info.name.size() > kNameBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("attach: group name of ", info.name.size(), " bytes"));
  }
  const RankId rank = attach.member.rank;
  if (!rank.valid() || rank.value() >= info.shape.num_ranks || attach.member.incarnation == 0) {
    return absl::InvalidArgumentError(absl::StrCat("attach: rank ", rank.value(), " incarnation ",
                                                   attach.member.incarnation, " of ", info.shape.num_ranks, " ranks"));
  }
  if (info.num_layers < 1 || info.num_nodes < 1 || info.shape.num_ranks % info.num_nodes != 0) {
    return absl::InvalidArgumentError(absl::StrCat("attach: ", info.num_layers, " layers, ", info.num_nodes,
                                                   " nodes for ", info.shape.num_ranks, " ranks"));
  }
  if (attach.term_obeyed > kTermMax || attach.view.number > kNumberMax) {
    return absl::InvalidArgumentError(absl::StrCat("attach: term ", attach.term_obeyed, " obeyed, view ",
                                                   attach.view.number, ": at most ", kTermMax, " and ", kNumberMax));
  }
  const size_t expected = static_cast<size_t>(info.num_layers) * static_cast<size_t>(info.shape.slots_per_rank);
  if (attach.slots.size() != expected) {
    return absl::InvalidArgumentError(
        absl::StrCat("attach: inventory of ", attach.slots.size(), " slots; a rank has ", expected));
  }
  for (size_t i = 0; i < attach.slots.size(); ++i) {
    const SlotRecord& slot = attach.slots[i];
    const bool needed = slot.state == SlotState::kVerified || slot.state == SlotState::kWriting;
    if (needed && (!slot.expert.valid() || slot.expert.value() >= info.shape.num_experts)) {
      return absl::InvalidArgumentError(
          absl::StrCat("attach: inventory: slot ", i, " holds unknown expert ", slot.expert.value()));
    }
    if (slot.generation > kNumberMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("attach: inventory: slot ", i, " is of generation ", slot.generation, ": at most ", kNumberMax));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSameGroup(const GroupInfo& group, const GroupInfo& other) {
  EVENKEEL_RETURN_IF_ERROR(CheckSame("model", group.model, other.model));
  EVENKEEL_RETURN_IF_ERROR(CheckSame("weights version", group.weights_version, other.weights_version));
  EVENKEEL_RETURN_IF_ERROR(CheckSame("manifest digest", group.manifest_digest, other.manifest_digest));
  EVENKEEL_RETURN_IF_ERROR(CheckSame("world size", group.num_first_ranks(), other.num_first_ranks()));
  EVENKEEL_RETURN_IF_ERROR(CheckSame("most ranks", group.shape.num_ranks, other.shape.num_ranks));
  EVENKEEL_RETURN_IF_ERROR(CheckSame("number of experts", group.shape.num_experts, other.shape.num_experts));
  EVENKEEL_RETURN_IF_ERROR(CheckSame("slots per rank", group.shape.slots_per_rank, other.shape.slots_per_rank));
  EVENKEEL_RETURN_IF_ERROR(CheckSame("number of layers", group.num_layers, other.num_layers));
  EVENKEEL_RETURN_IF_ERROR(CheckSame("number of nodes", group.num_nodes, other.num_nodes));
  EVENKEEL_RETURN_IF_ERROR(CheckSame("bytes per expert", group.expert_bytes, other.expert_bytes));
  EVENKEEL_RETURN_IF_ERROR(
      CheckSame("count place", static_cast<uint32_t>(group.count_place), static_cast<uint32_t>(other.count_place)));
  return CheckSame("routing", static_cast<uint32_t>(group.routing), static_cast<uint32_t>(other.routing));
}

void TakeOutcome(GroupState& group, LayerId layer, SlotIdx slot, SlotTable::Outcome outcome, Rollouts::MoveEnd end,
                 absl::Time now, Effects& effects) {
  switch (outcome) {
    case SlotTable::Outcome::kVerified:
    case SlotTable::Outcome::kFailed:
      end.verified = outcome == SlotTable::Outcome::kVerified;
      if (group.orders.End(layer, slot).has_value()) group.rollouts.OnMoveEnded(end);
      break;
    case SlotTable::Outcome::kUnresolved:
      group.orders.Cancel(layer, slot, group.members, group.slots, now, effects);
      break;
    case SlotTable::Outcome::kLost:
      group.restores.Look();
      group.Alert(
          absl::StrCat("rank ", group.info.shape.RankOf(slot).value(), " lost the content of slot ", slot.value(),
                       " of layer ", layer.value(), ", which the maps named"),
          [layer, slot](const GroupState& g) {
            const SlotUse use = g.slots.at(layer, slot).use;
            return use != SlotUse::kLive && use != SlotUse::kVerified;
          },
          effects);
      break;
    case SlotTable::Outcome::kNothing:
    case SlotTable::Outcome::kUpdated:
    case SlotTable::Outcome::kOrphan:
      break;
  }
  const Slot& now_known = group.slots.at(layer, slot);
  const bool member = group.members.at(group.info.shape.RankOf(slot)).in_view();
  if (group.formed && member && now_known.spare() && group.slots.NumLive(layer, now_known.expert) == 0) {
    group.slots.StageAdd(layer, slot);  // its expert has no other replica: use it at once
  }
  if (now_known.use == SlotUse::kCondemned && end.num_corrupt > 0) {
    group.Alert(
        absl::StrCat("slot ", slot.value(), " of layer ", layer.value(), " on rank ",
                     group.info.shape.RankOf(slot).value(), " is condemned after ",
                     group.settings.mismatches_until_condemned, " fingerprint mismatches"),
        [layer, slot](const GroupState& g) { return g.slots.at(layer, slot).use == SlotUse::kCondemned; }, effects);
  }
}

absl::StatusOr<Membership::Admission> AdmitAgent(GroupState& group, SessionId session, const Attach& attach,
                                                 absl::Time now, Effects& effects) {
  const RankId rank = attach.member.rank;
  GroupInfo same_weights = attach.group;
  // A member's weights may have changed since; one that comes must have those of the group.
  if (attach.view.number > 0 || group.members.at(rank).member == attach.member) {
    same_weights.weights_version = group.info.weights_version;
  }
  EVENKEEL_RETURN_IF_ERROR(CheckSameGroup(group.info, same_weights));
  LearnView(group, attach.view, now, effects);
  EVENKEEL_RETURN_IF_ERROR(RefuseExpelled(group, session, attach, effects));
  const bool known = group.members.at(rank).member == attach.member;
  // Also where a stream that it has given up still speaks for it: it is not silent.
  if (known) group.evidence.Hear(rank, now);
  EVENKEEL_ASSIGN_OR_RETURN(
      const Membership::Admission admission,
      group.members.Admit(session, attach, {.replace = !group.formed && group.told_view.number == 0}, now));
  group.highest_view = std::max(group.highest_view, attach.view.number);
  if (admission == Membership::Admission::kWaits) return admission;
  if (!known) {
    group.loads.Restart(rank);
    group.slots.Reset(rank);
    group.evidence.Forget(rank, now);
  }
  group.evidence.Hear(rank, now);
  group.evidence.HearSuspended(rank, attach.suspended);
  MemberRecord& member = group.members.at(rank);
  if (!member.in_view()) {
    // It was a member, and is to learn that it is none any more.
    if (group.term > 0) Greet(group, member, attach, effects);
    return admission;
  }
  Effects orders;
  if (!attach.suspended) {
    group.slots.SetRenewed(rank, group.formed && attach.group.weights_version != group.info.weights_version);
    TakeInventory(group, attach, now, orders);
  }
  if (group.term > 0) {
    Greet(group, member, attach, effects);
    CancelOrphans(group, member, orders);
  }
  effects.insert(effects.end(), orders.begin(), orders.end());
  if (group.formed && !group.publisher.Acknowledges(attach.epoch, attach.maps_digest)) {
    // It holds maps that were never published at that epoch: what it says of quiescence means nothing.
    member.quiesced_epoch = Epoch();
    group.Alert(
        absl::StrCat("rank ", rank.value(), " holds maps at epoch ", attach.epoch.ToString(),
                     " that were not published there"),
        [rank](const GroupState& g) {
          const MemberRecord& now_known = g.members.at(rank);
          return now_known.in_view() && now_known.quiesced_epoch == Epoch();
        },
        effects);
  }
  return admission;
}

void AdmitNewcomer(GroupState& group, const Waiter& waiter, absl::Time now, Effects& effects) {
  const RankId rank = waiter.attach.member.rank;
  const MemberRecord& member = group.members.Join(waiter, now);
  group.loads.Restart(rank);
  group.evidence.Forget(rank, now);
  group.slots.SetBarred(rank, true);
  group.slots.Reset(rank, group.publisher.epoch());
  Greet(group, member, waiter.attach, effects);
  Effects orders;
  TakeInventory(group, waiter.attach, now, orders);
  CancelOrphans(group, member, orders);
  effects.insert(effects.end(), orders.begin(), orders.end());
}

void WelcomeAll(GroupState& group, Effects& effects) {
  for (const MemberRecord& member : group.members.members()) {
    if (!member.attached()) continue;
    Greet(group, member, Attach(), effects);
    CancelOrphans(group, member, effects);
  }
}

namespace {

// Members that join, and that a controller before had not told yet, or not all others: they are accepted first.
void HoldFresh(GroupState& group) {
  for (const MemberRecord& known : group.members.members()) {
    if (!known.fresh || !known.in_view() || !known.attached()) continue;
    MemberRecord& member = group.members.at(known.member.rank);
    member.standing = Standing::kJoining;
    member.held = true;
    group.slots.SetBarred(member.member.rank, true);
    group.changes.newcomers[member.member.rank] = group.highest_view + 1;
  }
}

}  // namespace

bool FormGroup(GroupState& group, Effects& effects) {
  if (group.formed || group.term == 0 || !group.members.AllAttached()) return false;
  if (group.members.FirstUnsettled(group.info.weights_version).has_value()) return false;
  group.formed = true;
  group.restores.Look();
  HoldFresh(group);
  group.publisher.PublishView({group.highest_view + 1, group.members.Members()}, group.members, effects);
  ++group.highest_view;
  AlertConflicts(group, group.slots.FixFingerprints(), effects);
  if (!group.MayPublish()) return true;
  group.slots.NameAllConfirmed(group.publisher.next_epoch());
  return true;
}

}  // namespace evenkeel::controller
