// SPDX-License-Identifier: Apache-2.0
//
// Membership: who the members of a group are, who of them is attached, and how far each has quiesced.
//
// Every rank has one member at most, known by its incarnation. A member whose stream ended stays a member: silence
// freezes waves, it expels nobody (rule 24). Another incarnation of a rank waits outside the set, as does a rank that is
// not in the view. Until the group has formed the view is the ranks that it began with, whoever they are.
//
// Threads:   none. Owned by Group.
// Limits:    one member and one waiter for each rank that there may ever be.
// Order:     listings are by rank.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/protocol/identity.h"
#include "algos/protocol/messages.h"
#include "controller/core/event.h"
#include "controller/core/ranks/standing.h"

namespace evenkeel::controller {

struct MemberRecord {
  Member member;  // incarnation 0: nobody yet
  std::optional<SessionId> session;
  std::vector<Endpoint> endpoints;
  Epoch quiesced_epoch;
  uint64_t quiesced_view = 0;
  EngineStatus engine;
  absl::Time first_attached;  // of this incarnation
  absl::Time changed;         // last attached or detached
  Standing standing = Standing::kAbsent;
  absl::Time stood;    // when it came to stand so
  bool fresh = false;  // its engine was started to join and had no maps yet when its agent attached
  // Its weights are about to change, or do: nothing is read from it or moved (rule 22).
  bool suspended = false;
  bool released = false;                    // and it was told that nobody reads its slots
  std::optional<uint64_t> weights_version;  // as it said when it attached last
  bool held = false;  // joining, and not told yet that it is in the view: it has no maps and sends nothing (rule 14)

  bool in_view() const { return IsInView(standing); }
  // Whether it has maps, or may have: then all that is moved or left waits for it (rule 13).
  bool counts() const { return in_view() && !held; }
  bool known() const { return member.incarnation != 0; }
  bool attached() const { return session.has_value(); }
};

// Attached, but not a member: of another incarnation than its rank's, or its rank is not in the view.
struct Waiter {
  SessionId session = 0;
  Attach attach;
  absl::Time since;
};

class Membership {
 public:
  Membership(int num_ranks, int num_first_ranks);

  enum class Admission { kMember, kWaits };

  // Takes the sender in as its rank's member, or lets it wait: where its rank is not in the view, and while `replace`
  // does not allow another incarnation in the place of one that is gone. kAlreadyExists where another session speaks
  // for the same incarnation, or another waits for the rank.
  struct AttachRules {
    bool replace = false;
  };
  absl::StatusOr<Admission> Admit(SessionId session, const Attach& attach, AttachRules rules, absl::Time now);

  // The waiter becomes the member of its rank: in the view, but held (rule 14). Requires: the rank is not in the view,
  // and nobody speaks for it.
  MemberRecord& Join(const Waiter& waiter, absl::Time now);
  // `member`, who has not attached yet, is the member of its rank and serves.
  void Expect(const Member& member, absl::Time now);
  void SetStanding(RankId rank, Standing standing, absl::Time now);

  // The rank whose member or waiter `session` was; none if unknown.
  std::optional<RankId> Detach(SessionId session, absl::Time now);

  const MemberRecord& at(RankId rank) const { return members_[rank.idx()]; }
  MemberRecord& at(RankId rank) { return members_[rank.idx()]; }
  const std::vector<MemberRecord>& members() const { return members_; }
  const absl::btree_map<RankId, Waiter>& waiters() const { return waiters_; }

  // The member that speaks through `session`, or null (also for waiters).
  MemberRecord* FindBySession(SessionId session);

  // Of those that count.
  bool AllAttached() const;
  bool NoneAttached() const;
  // Gone: without a stream, or its engine was seen to have ended.
  bool Gone(RankId rank) const;
  // Of those in the view.
  bool AllGone() const;

  // Remembers that `rank` has quiesced; what is older than known changes nothing.
  void NoteQuiesced(RankId rank, Epoch epoch, uint64_t view_number);

  // The first that counts and is detached or has not quiesced at both; none: all have (rules 6, 13).
  std::optional<RankId> FirstNotQuiesced(Epoch epoch, uint64_t view_number) const;
  // Of those not quiesced the one that holds up the others: an absent one, else the one that most engines say they
  // are waiting for; ties go to the lowest rank. For people: a hint, nothing is decided by it.
  std::optional<RankId> LikelyCulprit(Epoch epoch, uint64_t view_number) const;
  // The newest epoch at which all have quiesced, whether attached or not.
  Epoch OldestQuiesced() const;

  // The first that counts and is suspended, or has other weights than `version`; none: moves may run (rule 22).
  std::optional<RankId> FirstUnsettled(uint64_t version) const;
  // The version of all that count and are known, where it is the same and none is suspended.
  std::optional<uint64_t> CommonWeights() const;

  // In the view.
  std::vector<Member> Members() const;
  int NumInView() const;
  // In the view and attached.
  std::vector<RankId> AttachedRanks() const;
  // [num_ranks] Those that no plan may use: all that do not serve. Where none does, none is.
  std::vector<bool> AbsentRanks() const;
  // Takes the waiter of `rank` out; empty if there is none.
  std::optional<Waiter> TakeWaiter(RankId rank);

 private:
  // Another engine speaks for the rank of `record`.
  static void Take(MemberRecord& record, SessionId session, const Attach& attach, absl::Time now);

  std::vector<MemberRecord> members_;  // [num_ranks]
  absl::btree_map<RankId, Waiter> waiters_;
};

}  // namespace evenkeel::controller
