// SPDX-License-Identifier: Apache-2.0
//
// LossChecker: who is left out of views, and why; and what goes out before a view.
//
// It keeps for itself what each controller process has heard, from the messages as they are heard and sent, and knows
// nothing of the core's records.
//
// Checks:    a view leaves out only members whose engines have ended, that somebody drained, or that rule 24 allows:
//            silent for a lease, with witnesses that are heard and wait for them, never soon after a start, never so
//            many that the others could not hold every expert or are less than half; a view goes out alone and first:
//            before maps or moves that follow it, to all who are told views.
// Threads:   none.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/time/time.h"

#include "algos/protocol/identity.h"
#include "algos/protocol/messages.h"
#include "controller/core/ranks/evidence.h"
#include "tests/sim/network.h"
#include "tests/sim/trace.h"

namespace evenkeel::sim {

class LossChecker {
 public:
  struct World {
    Trace* trace = nullptr;
    int ranks_needed = 1;             // fewer cannot hold every expert
    controller::EvidenceRules rules;  // as the rule has them, whatever a mutant's settings say
    std::function<bool(int group, const Member& member)> lives;   // its engine holds its lock
    std::function<bool(int group, const Member& member)> leaves;  // somebody asked for it
  };

  explicit LossChecker(World world) : world_(std::move(world)) {}

  // A controller's process begins: it has heard nothing. Times are by its own clock.
  void Started(int controller, absl::Time now);
  // It hears something, whatever it is; what it sends until the next time was decided then.
  void Steps(int controller, absl::Time now) { processes_[controller].stepped = now; }
  void Hears(int controller, int group, StreamId stream, const AgentMessage& message, absl::Time now);
  void Closes(int controller, int group, StreamId stream);
  void Sends(int controller, int group, StreamId stream, const ControllerMessage& message);

  uint64_t num_lost() const { return num_lost_; }
  uint64_t num_silent() const { return num_silent_; }  // of these, by witnesses

 private:
  struct Heard {
    absl::Time at = absl::InfinitePast();
    absl::Time status_at = absl::InfinitePast();
    absl::Time progressed = absl::InfinitePast();  // of its step, or in none
    absl::Time busy_until = absl::InfinitePast();
    EngineStatus status;
    bool has_maps = true;  // or had some
  };
  struct Stream {
    Member member;
    uint64_t told = 0;  // newest view that it was sent
  };
  struct Group {
    View told;  // the newest that an agent told
    View sent;
    absl::btree_map<Member, Heard> heard;
    absl::btree_map<StreamId, Stream> streams;
  };
  struct Process {
    absl::Time started;
    absl::Time stepped;
    absl::btree_map<int, Group> groups;
  };

  // Why the rules do not allow it; empty: they do.
  std::string WhyNot(const Process& process, const Group& group, int group_idx, const View& before, const View& after,
                     const Member& member);

  const World world_;
  absl::btree_map<int, Process> processes_;
  uint64_t num_lost_ = 0;
  uint64_t num_silent_ = 0;
};

}  // namespace evenkeel::sim
