// SPDX-License-Identifier: Apache-2.0
//
// ControllerMessage: what the controller tells an agent, as plain values.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/layer_map.h"
#include "algos/protocol/endpoint.h"
#include "algos/protocol/identity.h"

namespace evenkeel {

// Everything an agent does not get as a flag of its own.
struct AgentSettings {
  absl::Duration report_interval = absl::Milliseconds(100);
  uint64_t bytes_per_second_max = 0;  // over all moves into this rank; 0: no limit
  int concurrent_moves_max = 4;       // further orders wait in the agent
  int attempts_per_source = 1;
  std::string transport;                             // force this one; empty: best per pair
  absl::Duration scrub_interval = absl::Seconds(1);  // one live slot per interval is fingerprinted again; 0: never
  absl::Duration reconnect_max = absl::Seconds(1);   // the longest that it waits before it comes back
  // Stores of experts beside the ranks' slots (docs/membership.md).
  uint64_t pool_bytes = 0;         // of host memory, for each host; 0: no pool
  std::string snapshot_directory;  // a folder for each group and version is made within; empty: no snapshot
  uint64_t store_bytes_per_second = uint64_t{256} << 20;  // of each agent, into pool and snapshot; 0: no limit

  friend bool operator==(const AgentSettings&, const AgentSettings&) = default;
};

// Answer to Attach. Every later message of the stream is of this term.
struct Welcome {
  uint32_t term = 0;
  AgentSettings settings;
};

struct ViewUpdate {
  View view;
};

// New maps. Applied as a whole or refused (MapsRefused).
struct MapsUpdate {
  Epoch epoch;
  uint64_t view_number = 0;
  Epoch base_epoch;          // the layers not listed are as in this one; equal to `epoch` if all are listed
  uint64_t maps_digest = 0;  // of all layers after applying
  std::vector<std::pair<LayerId, algos::LayerMap>> layers;  // ascending
};

// A slot of a living member, or a store of experts that belongs to none: then `member.rank` is invalid and `endpoint`
// alone says where, of transport "pool" (host memory) or "snapshot" (files).
struct MoveSource {
  Member member;
  SlotIdx slot;
  uint64_t generation = 0;
  Endpoint endpoint;
  std::string pass = {};  // that this reader shows at the endpoint, in this rollout; empty: none is wanted there
};

// Copy an expert into a slot of this rank. Accepted exactly once per (slot, generation) (rule 7).
struct MoveOrder {
  uint64_t move_id = 0;
  LayerId layer;
  ExpertId expert;
  SlotIdx slot;
  uint64_t generation = 0;          // the slot's next one
  uint64_t fingerprint = 0;         // expected
  Epoch retired_since;              // all counted members have quiesced at or past this epoch
  std::vector<MoveSource> sources;  // best first, at least one
  absl::Duration deadline;          // from receipt
};

// Gives a move up; consumes its generation. Answered by MoveFailed{kAborted} or MoveFinished.
struct CancelMove {
  uint64_t move_id = 0;
  LayerId layer;
  SlotIdx slot;
  uint64_t generation = 0;
};

// To one that is suspended: nobody reads its slots any more, and nobody will before it resumes.
struct SlotsReleased {};

// The stream will be closed: why, and whether it makes sense to come back.
struct Refused {
  absl::Status status;
};

using ControllerMessage = std::variant<Welcome, ViewUpdate, MapsUpdate, MoveOrder, CancelMove, Refused, SlotsReleased>;

}  // namespace evenkeel
