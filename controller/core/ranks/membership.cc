// SPDX-License-Identifier: Apache-2.0
#include "controller/core/ranks/membership.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"

namespace evenkeel::controller {

Membership::Membership(int num_ranks, int num_first_ranks) : members_(static_cast<size_t>(num_ranks)) {
  for (size_t r = 0; r < static_cast<size_t>(num_first_ranks); ++r) members_[r].standing = Standing::kServing;
}

void Membership::Take(MemberRecord& record, SessionId session, const Attach& attach, absl::Time now) {
  if (record.member != attach.member) {
    const Standing standing = record.standing;
    const absl::Time stood = record.stood;
    record = MemberRecord();
    record.standing = standing;
    record.stood = stood;
    record.member = attach.member;
    record.first_attached = now;
  }
  record.session = session;
  record.fresh = attach.joining && attach.epoch == Epoch();
  record.endpoints = attach.endpoints;
  record.engine.alive = true;
  record.suspended = attach.suspended;
  record.released = false;
  record.weights_version = attach.group.weights_version;
  record.changed = now;
}

MemberRecord& Membership::Join(const Waiter& waiter, absl::Time now) {
  const RankId rank = waiter.attach.member.rank;
  MemberRecord& record = members_[rank.idx()];
  EVENKEEL_CHECK(!record.in_view() && !record.attached());
  Take(record, waiter.session, waiter.attach, now);
  SetStanding(rank, Standing::kJoining, now);
  record.held = true;
  return record;
}

void Membership::Expect(const Member& member, absl::Time now) {
  MemberRecord& record = members_[member.rank.idx()];
  record = MemberRecord();
  record.member = member;
  record.first_attached = record.changed = now;
  SetStanding(member.rank, Standing::kServing, now);
}

void Membership::SetStanding(RankId rank, Standing standing, absl::Time now) {
  MemberRecord& record = members_[rank.idx()];
  record.standing = standing;
  record.stood = now;
}

absl::StatusOr<Membership::Admission> Membership::Admit(SessionId session, const Attach& attach, AttachRules rules,
                                                        absl::Time now) {
  const RankId rank = attach.member.rank;
  MemberRecord& record = members_[rank.idx()];
  const bool same = record.member == attach.member;
  if (same && record.attached()) {
    return absl::AlreadyExistsError(absl::StrCat("attach rank ", rank.value(), " incarnation ",
                                                 attach.member.incarnation, ": another session speaks for it"));
  }
  const bool replaces = record.in_view() && (!record.known() || (rules.replace && Gone(rank)));
  if (!same && !replaces) {
    const auto waiter = waiters_.find(rank);
    if (waiter != waiters_.end()) {
      return absl::AlreadyExistsError(absl::StrCat("attach rank ", rank.value(), " incarnation ",
                                                   attach.member.incarnation, ": incarnation ",
                                                   record.member.incarnation, " is the member and incarnation ",
                                                   waiter->second.attach.member.incarnation, " waits already"));
    }
    waiters_.emplace(rank, Waiter{session, attach, now});
    return Admission::kWaits;
  }
  Take(record, session, attach, now);
  record.quiesced_epoch = std::max(record.quiesced_epoch, std::min(attach.quiesced_epoch, attach.epoch));
  return Admission::kMember;
}

std::optional<RankId> Membership::Detach(SessionId session, absl::Time now) {
  for (MemberRecord& record : members_) {
    if (record.session != session) continue;
    record.session.reset();
    record.changed = now;
    return record.member.rank;
  }
  for (const auto& [rank, waiter] : waiters_) {
    if (waiter.session != session) continue;
    const RankId found = rank;
    waiters_.erase(found);
    return found;
  }
  return std::nullopt;
}

MemberRecord* Membership::FindBySession(SessionId session) {
  for (MemberRecord& record : members_) {
    if (record.session == session) return &record;
  }
  return nullptr;
}

bool Membership::AllAttached() const {
  return std::ranges::all_of(members_,
                             [](const MemberRecord& record) { return record.attached() || !record.counts(); });
}

bool Membership::NoneAttached() const {
  return std::ranges::none_of(members_, [](const MemberRecord& record) { return record.attached(); });
}

bool Membership::Gone(RankId rank) const {
  const MemberRecord& record = members_[rank.idx()];
  return !record.attached() || !record.engine.alive;
}

bool Membership::AllGone() const {
  for (size_t r = 0; r < members_.size(); ++r) {
    if (members_[r].in_view() && !Gone(RankId(static_cast<int32_t>(r)))) return false;
  }
  return true;
}

void Membership::NoteQuiesced(RankId rank, Epoch epoch, uint64_t view_number) {
  MemberRecord& record = members_[rank.idx()];
  record.quiesced_epoch = std::max(record.quiesced_epoch, epoch);
  record.quiesced_view = std::max(record.quiesced_view, view_number);
}

std::optional<RankId> Membership::FirstNotQuiesced(Epoch epoch, uint64_t view_number) const {
  for (size_t r = 0; r < members_.size(); ++r) {
    const MemberRecord& record = members_[r];
    if (!record.counts()) continue;
    if (!record.attached() || record.quiesced_epoch < epoch || record.quiesced_view < view_number) {
      return RankId(static_cast<int32_t>(r));
    }
  }
  return std::nullopt;
}

std::optional<RankId> Membership::FirstUnsettled(uint64_t version) const {
  for (size_t r = 0; r < members_.size(); ++r) {
    const MemberRecord& record = members_[r];
    if (!record.counts() || !record.known()) continue;
    if (record.suspended || record.weights_version != version) return RankId(static_cast<int32_t>(r));
  }
  return std::nullopt;
}

std::optional<uint64_t> Membership::CommonWeights() const {
  std::optional<uint64_t> common;
  for (const MemberRecord& record : members_) {
    // Whom a view names and nobody has heard yet may have anything.
    if (!record.counts() || !record.weights_version.has_value()) continue;
    if (record.suspended) return std::nullopt;
    if (common.has_value() && common != record.weights_version) return std::nullopt;
    common = record.weights_version;
  }
  return common;
}

std::optional<RankId> Membership::LikelyCulprit(Epoch epoch, uint64_t view_number) const {
  std::vector<int> num_waiting(members_.size(), 0);
  for (const MemberRecord& record : members_) {
    for (RankId rank : record.engine.waiting_for) {
      if (rank.valid() && rank.idx() < num_waiting.size()) ++num_waiting[rank.idx()];
    }
  }
  std::optional<RankId> culprit;
  for (size_t r = 0; r < members_.size(); ++r) {
    const MemberRecord& record = members_[r];
    if (!record.counts()) continue;
    if (record.attached() && record.quiesced_epoch >= epoch && record.quiesced_view >= view_number) continue;
    const RankId rank(static_cast<int32_t>(r));
    if (!record.attached()) return rank;
    if (!culprit.has_value() || num_waiting[r] > num_waiting[culprit->idx()]) culprit = rank;
  }
  return culprit;
}

Epoch Membership::OldestQuiesced() const {
  Epoch oldest = Epoch::FromPacked(UINT64_MAX);
  for (const MemberRecord& record : members_) {
    if (record.counts()) oldest = std::min(oldest, record.quiesced_epoch);
  }
  return oldest;
}

std::vector<RankId> Membership::AttachedRanks() const {
  std::vector<RankId> ranks;
  for (const MemberRecord& record : members_) {
    if (record.in_view() && record.attached()) ranks.push_back(record.member.rank);
  }
  return ranks;
}

std::vector<Member> Membership::Members() const {
  std::vector<Member> members;
  for (const MemberRecord& record : members_) {
    if (record.in_view() && record.known()) members.push_back(record.member);
  }
  return members;
}

int Membership::NumInView() const { return static_cast<int>(std::ranges::count_if(members_, &MemberRecord::in_view)); }

std::vector<bool> Membership::AbsentRanks() const {
  std::vector<bool> absent;
  for (const MemberRecord& record : members_) absent.push_back(record.standing != Standing::kServing);
  if (std::ranges::count(absent, false) == 0) absent.assign(absent.size(), false);
  return absent;
}

std::optional<Waiter> Membership::TakeWaiter(RankId rank) {
  const auto found = waiters_.find(rank);
  if (found == waiters_.end()) return std::nullopt;
  Waiter waiter = std::move(found->second);
  waiters_.erase(found);
  return waiter;
}

}  // namespace evenkeel::controller
