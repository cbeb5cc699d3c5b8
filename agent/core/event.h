// SPDX-License-Identifier: Apache-2.0
//
// Events and effects of the Worker: all that an agent's core hears and all that it can have done.
//
// Order:     effects are carried out in the order given; what follows a Store* or WriteMaps effect waits until that
//            is in the region.
// Threads:   plain values.
#pragma once

#include <cstdint>
#include <memory>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "algos/layer_map.h"
#include "algos/protocol/identity.h"
#include "algos/protocol/messages.h"

namespace evenkeel::agent {

// All layers' maps at one epoch; shared, never changed after it is made.
struct Maps {
  Epoch epoch;
  uint64_t view_number = 0;
  uint64_t digest = 0;
  std::vector<algos::LayerMap> layers;  // [num_layers]
};

// ---- Events ------------------------------------------------------------------------------------------------------

// The stream to the controller is up: the worker answers with Attach. `stream` names it; what arrives late from
// an earlier one is dropped.
struct StreamOpened {
  uint64_t stream = 0;
};
struct StreamClosed {
  uint64_t stream = 0;
};
struct MessageReceived {
  ControllerMessage message;
  uint64_t stream = 0;
};
// Words of the region that changed. Values are those the shell read; the worker remembers the newest.
struct EngineObserved {
  Epoch quiesced_epoch;  // newest epoch at which the engine has quiesced
  uint64_t quiesced_view = 0;
  EngineStatus status;  // but for mean_step_time and steps_per_second, which the worker makes of the next two
  // Monotonic: steps that ended without being aborted, and how long they were open in all.
  uint64_t num_steps_timed = 0;
  absl::Duration steps_time = absl::ZeroDuration();
  uint64_t suspension = 0;  // its number, where the engine is suspended
};
// A reading of the region's counters: monotonic, [num_layers * slots counted per layer].
struct CountersRead {
  uint64_t first_step = 0;
  uint64_t last_step = 0;
  std::vector<uint64_t> tokens_of_slot;  // of all phases
  uint64_t num_unrouted_tokens = 0;
  // Of tokens_of_slot; empty: not told apart.
  std::vector<uint64_t> prefill_of_slot = {};
  std::vector<uint64_t> decode_of_slot = {};
};
// Answer to WriteMaps: they are the newest in the region, or no bank was free (tried again at NextWakeup).
struct MapsWritten {
  Epoch epoch;
  bool written = false;
};
// A transfer ended. `fingerprint` is of the bytes now in the slot, meaningful where the status is OK.
struct TransferEnded {
  uint64_t move_id = 0;
  int attempt = 0;
  absl::Status status;
  uint64_t fingerprint = 0;
  uint64_t bytes = 0;
};
// The engine has refreshed what it derives from the slot (rule 9).
struct PostMoveAcknowledged {
  LayerId layer;
  SlotIdx slot;
  uint64_t generation = 0;
};
// Answer to FingerprintSlot.
struct SlotFingerprinted {
  LayerId layer;
  SlotIdx slot;
  uint64_t generation = 0;
  uint64_t fingerprint = 0;
};
// What this agent offers to be read is now this: transports and stores.
struct OffersChanged {
  std::vector<Endpoint> endpoints;
};
// The engine of another rank of this host has ended. Given once for each.
struct PeerEngineEnded {
  Member member;
};
// Time passed; given when NextWakeup was reached.
struct Tick {};

using Event =
    std::variant<StreamOpened, StreamClosed, MessageReceived, EngineObserved, CountersRead, MapsWritten, TransferEnded,
                 PostMoveAcknowledged, SlotFingerprinted, OffersChanged, PeerEngineEnded, Tick>;

// ---- Effects -----------------------------------------------------------------------------------------------------

struct SendToController {
  AgentMessage message;
};
// End the stream (the shell reconnects with back-off) because the controller broke the protocol or is outdated.
struct CloseStream {
  absl::Status why;
};
struct StoreTerm {
  uint32_t term = 0;
};
// Write into a free bank and announce as newest; answer MapsWritten. A later WriteMaps replaces one not yet written.
struct WriteMaps {
  std::shared_ptr<const Maps> maps;
};
struct StoreView {
  View view;
};
struct StoreSlot {
  LayerId layer;
  SlotIdx slot;
  SlotRecord record;
};
// Copy the expert into the slot, then fingerprint it; answer TransferEnded once, also after CancelTransfer.
struct StartTransfer {
  uint64_t move_id = 0;
  int attempt = 0;
  LayerId layer;
  ExpertId expert;
  SlotIdx slot;
  uint64_t fingerprint = 0;  // expected
  MoveSource source;
  absl::Time deadline;
  uint64_t bytes_per_second_max = 0;  // 0: no limit
  std::string transport;              // forced one between ranks, or empty
};
struct CancelTransfer {
  uint64_t move_id = 0;
  int attempt = 0;
};
// Ask the engine to refresh derived tensors; answer PostMoveAcknowledged (at once if it registered no such call).
struct NotifyPostMove {
  LayerId layer;
  SlotIdx slot;
  uint64_t generation = 0;
};
struct FingerprintSlot {
  LayerId layer;
  SlotIdx slot;
  uint64_t generation = 0;
};
// Answer CountersRead soon, once for each, in order.
struct ReadCounters {};

// No copy of this rank's slots runs, and none will: once nothing else in this process reads them or keeps mappings of
// other ranks, the engine is told so. What it then makes of the slots is for the next worker of the region to find.
struct GrantSuspension {
  uint64_t suspension = 0;
};

using Effect = std::variant<SendToController, CloseStream, StoreTerm, WriteMaps, StoreView, StoreSlot, StartTransfer,
                            CancelTransfer, NotifyPostMove, FingerprintSlot, ReadCounters, GrantSuspension>;
using Effects = std::vector<Effect>;

// ---- Start -------------------------------------------------------------------------------------------------------

// What the region says when an agent takes it over; a fresh region has epoch {0, 0} and default maps.
struct RegionState {
  GroupInfo group;
  Member member;
  bool joining = false;     // its engine was started to join
  uint64_t suspension = 0;  // its number, where the engine is suspended
  std::vector<Endpoint> endpoints;
  uint32_t term_obeyed = 0;
  std::shared_ptr<const Maps> maps;  // newest in the region
  View view;
  Epoch quiesced_epoch;
  std::vector<SlotRecord> slots;               // [num_layers * slots_per_rank]
  std::vector<uint64_t> tokens_of_slot;        // counters as found: the base of the first report
  std::vector<uint64_t> prefill_of_slot = {};  // of these; empty: not told apart
  std::vector<uint64_t> decode_of_slot = {};
};

}  // namespace evenkeel::agent
