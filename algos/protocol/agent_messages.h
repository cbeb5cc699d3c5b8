// SPDX-License-Identifier: Apache-2.0
//
// AgentMessage: what an agent tells the controller, as plain values.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/protocol/endpoint.h"
#include "algos/protocol/group_info.h"
#include "algos/protocol/identity.h"

namespace evenkeel {

// First message of every stream: all that any controller needs to go on from it.
struct Attach {
  GroupInfo group;
  Member member;
  std::vector<Endpoint> endpoints;
  uint32_t term_obeyed = 0;  // highest term this agent ever obeyed (rule 3)
  Epoch epoch;               // newest maps accepted; in the region as soon as a bank is free
  uint64_t maps_digest = 0;  // digest of all layers at that epoch
  Epoch quiesced_epoch;      // the engine has quiesced here (rule 11)
  View view;                 // newest known
  bool joining = false;      // the engine was started to join: it waits for its first maps outside the set (rule 4)
  bool suspended = false;    // its slots are not what this says until it attaches again (rule 22)
  std::vector<SlotRecord> slots;  // [num_layers * slots_per_rank], this rank's own
};

// The engine has quiesced at `epoch` and `view_number`: no older step is open, nothing older is served.
struct Quiesced {
  Epoch epoch;
  uint64_t maps_digest = 0;
  uint64_t view_number = 0;
};

// The maps could not be applied; the agent keeps what it had. The controller answers with full maps.
struct MapsRefused {
  Epoch epoch;       // that were refused
  Epoch held_epoch;  // that stay in force
  uint64_t held_digest = 0;
  std::string reason;
};

// Tokens since the report before it, within this incarnation. Sent every AgentSettings::report_interval.
struct LoadReport {
  absl::Time time;          // of the reading, by the agent's clock
  uint64_t first_step = 0;  // engine steps that the span touches
  uint64_t last_step = 0;
  // For kAfterDispatch one per local slot in order, then more for slots whose content changed within the span; for
  // kRouter likewise over all slots of the layer.
  struct Entry {
    LayerId layer;
    SlotIdx slot;
    ExpertId expert;
    uint64_t tokens = 0;  // of all phases
    uint64_t prefill_tokens = 0;
    uint64_t decode_tokens = 0;
    friend bool operator==(const Entry&, const Entry&) = default;
  };
  std::vector<Entry> entries;        // zero entries may be left out
  uint64_t num_unrouted_tokens = 0;  // routed to -1: their expert had no live replica
};

// What the agent sees of its engine. Sent at once when `alive` turns false or `suspended` true, and with every load
// report. That an engine has resumed is told by another Attach alone, with its slots and version.
struct EngineStatus {
  bool alive = true;  // its lock is held (rule 19)
  bool idle = false;
  bool leaving = false;            // it said that it is about to end (rule 24)
  bool suspended = false;          // its weights are about to change, or do (rule 22)
  bool called_begin_step = false;  // ever, in this incarnation
  bool called_end_step = false;
  bool called_route = false;
  uint64_t num_steps = 0;           // ended
  uint64_t num_calls_waited = 0;    // library calls that waited, as the engine watched them; must stay 0
  absl::Duration oldest_open_step;  // how long the oldest open step has been open; zero if none
  std::vector<RankId> waiting_for;  // ranks that a step of this engine reports waiting for
  // Of steps that ended, not aborted, in the last report interval; zero: none did.
  absl::Duration mean_step_time = absl::ZeroDuration();
  double steps_per_second = 0;
  absl::Duration busy_lease = absl::ZeroDuration();  // left of an announced pause: silence then says nothing
};

// Another rank's engine on this host has ended: its lock is free (rules 19, 24). Told again on every stream while the
// newest view known has the member.
struct PeerEnded {
  Member member;
};

// What the agent offers to be read has changed, its stores among it: replaces Attach::endpoints.
struct EndpointsChanged {
  std::vector<Endpoint> endpoints;
};

struct MoveFinished {
  uint64_t move_id = 0;
  LayerId layer;
  SlotIdx slot;
  uint64_t generation = 0;
  uint64_t fingerprint = 0;
  uint64_t bytes = 0;
  absl::Duration elapsed;
  int num_mismatches = 0;  // attempts whose content did not match, before the one that did
};

// The move ended without verified content; the slot is free (or condemned, or as before if never begun).
struct MoveFailed {
  uint64_t move_id = 0;
  LayerId layer;
  SlotIdx slot;
  uint64_t generation = 0;
  absl::Status status;        // kDataLoss: fingerprint mismatch; kAborted: cancelled or overtaken; ...
  bool content_kept = false;  // nothing was written: the slot still holds its old, verified content
  RankId source;              // the last one tried
  int num_mismatches = 0;     // attempts whose content did not match
};

// A verified slot no longer matches its fingerprint (rule 10); the agent has freed it.
struct SlotLost {
  LayerId layer;
  SlotIdx slot;
  uint64_t generation = 0;
};

using AgentMessage = std::variant<Attach, Quiesced, MapsRefused, LoadReport, EngineStatus, MoveFinished, MoveFailed,
                                  SlotLost, PeerEnded, EndpointsChanged>;

}  // namespace evenkeel
