// SPDX-License-Identifier: Apache-2.0
//
// Layout: what stands where in a region. Shared by the engine library and the agent, which may be of different builds:
// a change of anything here is a new RegionHeader::kVersion.
//
// A region is one SharedMemory object: the header below, then areas of sizes fixed at creation at the offsets that the
// header names (all counted from the header, 64-byte aligned), last the weights. Every Word has one writer, named in
// its area's comment. [n] is a length; R ranks, L layers, E experts, S slots per rank, P = R * S slots of a layer.
#pragma once

#include <cstdint>

#include "engine/region/word.h"

namespace evenkeel::engine {

inline constexpr int kTicketsPerLane = 64;
inline constexpr int kTensorsPerLayerMax = 32;
inline constexpr int kViewBanks = 2;
inline constexpr int kLanesMax = 16;
inline constexpr int kBanksPerRegionMax = kLanesMax + 2;
inline constexpr int kCountingThreadsMax = 64;
inline constexpr int kPhases = 3;  // other, prefill, decode: as evenkeel_phase numbers them
// Bytes of the file that carry the liveness locks (rule 19).
inline constexpr int kEngineLockByte = 0;
inline constexpr int kAgentLockByte = 1;

// Constant after creation.
struct RegionSizes {
  int32_t rank = 0;
  int32_t num_ranks = 0;  // that the group may ever have
  int32_t world = 0;      // that made it
  int32_t joining = 0;    // 1: this one comes to a group under way
  int32_t num_nodes = 1;
  int32_t num_layers = 0;
  int32_t num_experts = 0;
  int32_t slots_per_rank = 0;
  int32_t num_lanes = 1;
  int32_t num_counting_threads = 1;
  uint32_t count_place = 0;  // CountPlace of the protocol
  uint32_t routing = 0;      // Routing of the protocol
  uint64_t weights_bytes = 0;

  int32_t num_slots() const { return num_ranks * slots_per_rank; }
  // One for each lane's use, one newest, one being written (rule 16).
  int32_t num_banks() const { return num_lanes + 2; }
  bool counts_at_router() const { return count_place == 1; }
  // Threads that count, and slots counted per layer.
  int32_t num_counters() const { return counts_at_router() ? num_lanes : num_counting_threads; }
  int32_t slots_counted() const { return counts_at_router() ? num_slots() : slots_per_rank; }

  friend bool operator==(const RegionSizes&, const RegionSizes&) = default;
};

struct RegionOffsets {
  uint64_t num_tensors = 0;  // uint64_t [L]; written by the engine before `ready`, as are the tensors
  uint64_t tensors = 0;      // TensorRecord [L * kTensorsPerLayerMax]
  uint64_t slots = 0;        // SlotCell [L * S]
  uint64_t lanes = 0;        // LaneCell [num_lanes]
  uint64_t serving = 0;      // ServingCell [num_counting_threads]
  uint64_t counters = 0;     // Word [num_counters][kPhases][L * slots_counted], each row padded to counter_stride
  uint64_t unrouted = 0;     // Word [num_lanes][L * E], each row padded to unrouted_stride
  uint64_t views = 0;        // ViewCell, Word incarnation [R]; kViewBanks of them, view_stride apart
  uint64_t lost = 0;         // uint32_t [R], nonzero: no member now; by the agent, before any view by the engine
  uint64_t joined = 0;       // Word [R], number of the view in which the rank's member joined; by the agent
  uint64_t banks = 0;        // BankCell, tables of L layers; num_banks of them, bank_stride apart
  uint64_t weights = 0;      // page aligned

  uint64_t counter_stride = 0;  // bytes
  uint64_t unrouted_stride = 0;
  uint64_t view_stride = 0;
  uint64_t bank_stride = 0;
  uint64_t table_stride = 0;  // of one layer within a bank: offsets [E + 1], slots [P], bounds [P]
  uint64_t total_bytes = 0;

  friend bool operator==(const RegionOffsets&, const RegionOffsets&) = default;
};

// Requires: sizes within CheckSizes (region_view.h).
RegionOffsets OffsetsOf(const RegionSizes& sizes);

struct TensorRecord {
  char name[88];
  char dtype[16];
  uint64_t offset;  // in the weights, or in the allocation in device memory, of local slot 0
  uint64_t bytes_per_expert;
  uint64_t stride_bytes;
  // In device memory alone.
  uint64_t allocation_base;  // in the engine's process; tells allocations apart
  uint64_t allocation_bytes;
  unsigned char ipc_handle[64];
  unsigned char unused[48];
};
static_assert(sizeof(TensorRecord) == 256);

// A SlotRecord of the protocol: two copies, of which copies[sequence % 2] holds. By the engine before `ready` and within
// a granted suspension, by the agent otherwise.
struct alignas(64) SlotCell {
  struct Copy {
    Word state;
    Word expert;  // int32_t, sign-extended
    Word generation;
    Word fingerprint;
  };
  Word sequence;
  Copy copies[2];
  Word post_move_requested;  // a generation; by the agent
  Word post_move_done;       // a generation; by the engine
};
static_assert(sizeof(SlotCell) == 128);

// An open step; the lane's thread writes `ticket` last. A step on a stream is over when `done` names it too.
struct TicketCell {
  Word ticket;  // 0: none
  Word epoch;   // packed
  Word view;
  Word begun_ns;  // CLOCK_MONOTONIC
  Word done;      // a ticket; by the GPU, in the order of its stream
};

// By the thread of the lane, but for what is the GPU's.
struct alignas(64) LaneCell {
  static constexpr uint64_t kChoosing = UINT64_MAX;

  Word announced;        // maps in use, as in RegionHeader::newest; kChoosing: any
  Word num_begun;        // steps
  Word num_ended;        // steps, ended or aborted
  Word num_timed;        // steps that ended, not aborted
  Word timed_ns;         // how long those were open, in all
  Word idle;             // set_idle since the newest begin_step
  Word waiting_for;      // rank + 1; 0: nobody
  Word called_end_step;  // ever
  Word called_route;     // ever
  // Copies of banks into the lane's tables on a GPU, counted from 1: the newest that was asked for of each bank, and how
  // many are done. A bank is taken until its copy is.
  Word copy_of_bank[kBanksPerRegionMax];
  Word copies_done;  // by the GPU, in the order of its stream
  TicketCell tickets[kTicketsPerLane];
};

// By the counting thread.
struct alignas(64) ServingCell {
  static constexpr uint64_t kChoosing = UINT64_MAX;

  Word accepted;  // 0: nothing is served; else 1 + the view it was accepted under; kChoosing: about to be
};

// By the agent. Members follow: incarnation [R], 0: none.
struct alignas(64) ViewCell {
  static constexpr uint64_t kInvalid = UINT64_MAX;

  Word number;  // kInvalid while being written
};

// By the agent (bank 0 by the engine at creation). Tables follow.
struct alignas(64) BankCell {
  Word epoch;        // packed
  Word view_number;  // presumed
  Word digest;
};

struct alignas(64) RegionHeader {
  static constexpr uint32_t kTag = 0x4E474552u;  // "REGN"
  static constexpr uint32_t kVersion = 6;        // EVENKEEL_ABI_VERSION

  // By the engine at creation; constant.
  char group[64];
  char model[128];
  Word incarnation;  // stored last; 0: still being created
  uint64_t engine_pid;
  uint64_t engine_start_ticks;  // of the process since boot, from /proc
  uint64_t created_ns;          // CLOCK_REALTIME
  RegionSizes sizes;
  RegionOffsets offsets;

  // By the engine before `ready`; constant after it.
  uint64_t manifest_digest;
  uint64_t expert_bytes;  // of all tensors of one expert, the largest layer's
  uint64_t on_device;     // 1: all tensors lie in memory of the GPU device_uuid; 0: all in the region's weights
  unsigned char device_uuid[16];

  // By the engine.
  alignas(64) Word ready;
  Word has_post_move;
  Word called_begin_step;  // ever
  Word busy_until_ns;      // CLOCK_MONOTONIC
  Word num_calls_waited;   // as the engine watched them
  Word leaving;            // it is about to end
  Word weights_version;    // changed only within a granted suspension
  // Odd: the engine wants its copies and mappings gone, or has changed its weights since they are; even: it has not.
  // Counts both, so that each suspension has a number of its own.
  Word suspension;

  // By the agent.
  alignas(64) Word newest;  // sequence of the write << 8 | bank of the newest complete maps
  Word newest_view;         // its number
  Word newest_change;       // number of the newest view that lost a member or got one: tables of older views name them
  Word num_post_move_requests;  // ever
  Word term_obeyed;
  Word agent_pid;  // 0: no agent ever held the region
  // The suspension in which nobody reads or writes the slots; the engine then writes their records. By the agent, or
  // by the engine where it holds the agent's lock.
  Word suspension_granted;
};

inline uint32_t BankOf(uint64_t newest) { return static_cast<uint32_t>(newest & 0xFF); }
inline uint64_t NextNewest(uint64_t newest, uint32_t bank) { return ((newest >> 8) + 1) << 8 | bank; }

}  // namespace evenkeel::engine
