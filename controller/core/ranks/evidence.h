// SPDX-License-Identifier: Apache-2.0
//
// Evidence: what is known of ranks that may be dead, by who said it and when; and the judgement of it (rule 24).
//
// Three things are kept apart. *Ended*: an agent of the rank's host saw the lock of its engine free, or the engine
// said that it goes. *Silent*: its agent has said nothing for a lease, or its engine, in a step, has got nowhere for
// an engine lease. *Waiting*: an engine in a step says that it waits for the rank. A rank whose engine ended is lost at
// once. A silent one is lost only where witnesses wait for it that are themselves alive and heard, or where an operator
// gives it up; what a dying rank says of others counts for nothing.
//
// Threads:   none. Owned by Group.
// Limits:    one record a rank, one entry for each pair of reporter and accused.
// Order:     losses are by rank.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/protocol/messages.h"
#include "controller/core/ranks/membership.h"

namespace evenkeel::controller {

struct EvidenceRules {
  absl::Duration agent_lease;          // > 0
  absl::Duration engine_lease;         // > 0
  absl::Duration agent_reconnect_max;  // an agent that lives is back after so long
  int num_witnesses = 2;               // where more than two ranks are left that have maps
};

struct Loss {
  enum class Kind { kEnded, kLeft, kSilent };
  RankId rank;
  Kind kind = Kind::kEnded;
  std::vector<RankId> witnesses;  // of silence, ascending; else who said it
  std::string why;                // for people

  friend bool operator==(const Loss&, const Loss&) = default;
};

struct Verdict {
  std::vector<Loss> lost;
  std::string held_back;  // why ranks that are silent and waited for stay; empty: there are none
};

class Evidence {
 public:
  explicit Evidence(int num_ranks) : ranks_(static_cast<size_t>(num_ranks)) {}

  // The strand looks. After its start, and where it was away for more than a quarter of the lease, all leases begin
  // anew and silence says nothing for agent_reconnect_max and a lease: what was sent meanwhile is read first.
  // Requires: called every LookInterval at most.
  void Look(absl::Time now, const EvidenceRules& rules);
  static absl::Duration LookInterval(const EvidenceRules& rules) { return rules.agent_lease / 8; }

  // The agent of `rank` said something.
  void Hear(RankId rank, absl::Time now) { At(rank).heard = now; }
  // It told how its engine does: whom it waits for, how long it announced to be away.
  void HearStatus(RankId rank, const EngineStatus& status, absl::Time now);
  // `reporter` saw that the engine of `accused` has ended, or it is the engine's own word that it leaves.
  void NoteEnded(RankId reporter, RankId accused, absl::Time now);
  void NoteLeaving(RankId rank, absl::Time now);

  // Its agent attached: whether its engine is suspended. Then its peers wait for what may take long, and its agent has
  // engine_lease to come back.
  void HearSuspended(RankId rank, bool suspended) { At(rank).suspended = suspended; }
  // An operator lets go of it: while it is silent, nobody has to wait for it, and no limit holds (rule 24).
  void NoteGivenUp(RankId rank) { At(rank).given_up = true; }

  // Another engine stands for the rank, or none: nothing is held against it, nothing that it said counts.
  void Forget(RankId rank, absl::Time now);
  // It was expelled for its silence; counts as part of the group until Forget.
  void NoteExpelled(RankId rank) { At(rank).expelled_silent = true; }

  // Ranks that are lost, of those in the view. `ranks_min`: fewer cannot hold every expert.
  Verdict Judge(const Membership& members, int ranks_min, const EvidenceRules& rules, absl::Time now) const;

  // Whether its agent, or its engine in a step, has been silent for its lease.
  bool IsSilent(RankId rank, const EvidenceRules& rules, absl::Time now) const;
  // Ranks whose engines said at or after `since` that they wait for it.
  int NumSuspecting(RankId rank, absl::Time since) const;
  absl::Time heard(RankId rank) const { return ranks_[rank.idx()].heard; }
  absl::Time looked() const { return looked_; }
  absl::Time quiet_until() const { return quiet_until_; }

 private:
  struct Of {
    absl::Time heard = absl::InfinitePast();
    absl::Time busy_until = absl::InfinitePast();  // of an announced pause
    absl::Time progressed = absl::InfinitePast();  // its engine ended a step, was idle, or waited for others
    uint64_t num_steps = 0;
    bool in_step = false;
    bool suspended = false;
    std::optional<RankId> ended_by;  // the first that saw it
    bool leaving = false;
    bool given_up = false;
    bool expelled_silent = false;
  };
  struct Wait {
    absl::Time last;  // said so
  };
  using Pair = std::pair<RankId, RankId>;  // reporter, accused

  Of& At(RankId rank) { return ranks_[rank.idx()]; }
  const Of& At(RankId rank) const { return ranks_[rank.idx()]; }
  // Those whose word counts against `accused`.
  std::vector<RankId> Witnesses(RankId accused, const Membership& members, const EvidenceRules& rules,
                                absl::Time now) const;
  // Since when it has been silent, by its agent or its engine.
  absl::Time SilentSince(RankId rank, const EvidenceRules& rules, absl::Time now) const;

  std::vector<Of> ranks_;  // [num_ranks]
  absl::btree_map<Pair, Wait> waits_;
  absl::Time looked_ = absl::InfinitePast();
  absl::Time quiet_until_ = absl::InfinitePast();
};

}  // namespace evenkeel::controller
