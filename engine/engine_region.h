// SPDX-License-Identifier: Apache-2.0
//
// EngineRegion: what stands behind evenkeel_region: the mapped region and what only the engine's process knows.
//
// Private to the library. No exception leaves it: nothing in it throws, and memory is taken by create alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "engine/evenkeel.h"
#include "engine/region/hand_over.h"
#include "engine/region/region_view.h"
#include "kernels/cuda_steps.h"

// Owned by the lane's thread.
struct alignas(64) EvenkeelLane {
  uint32_t bank = 0;       // of the maps that the newest step took
  uint64_t epoch = 0;      // theirs
  uint64_t maps_view = 0;  // the view they presume
  uint64_t open = 0;       // bit per ring place of an open ticket
  uint64_t num_begun = 0;
  uint64_t num_ended = 0;
  // Of the newest step at the router, where it is counted: the lane's and phase's counters, else null.
  evenkeel::engine::Word* counters = nullptr;

  // On the GPU.
  static constexpr uint64_t kNothing = UINT64_MAX;
  uint64_t held = kNothing;         // maps that the lane's tables have where the stream is now, as RegionHeader::newest
  uint64_t num_copies = 0;          // of maps
  uint64_t mask_pushed = kNothing;  // RegionHeader::newest_change when the mask was last brought there
  uint64_t on_stream = 0;           // of `open`: begun on a stream
  uint64_t ending = 0;              // of these: over where the stream gets to it
  uint64_t last_seen_done_ns = 0;
  uint64_t last_unrouted_ns = 0;
  int8_t counted_phase[evenkeel::engine::kTicketsPerLane];  // by ring place, of steps on a stream; -1: not counted
};

struct evenkeel_region {
  evenkeel::engine::RegionView view;
  EvenkeelLane lanes[evenkeel::engine::kLanesMax];
  std::unique_ptr<evenkeel::kernels::CudaSteps> device;  // null until it is opened; uses the view
  uint64_t weights_used = 0;
  bool is_ready = false;
  // A joining engine was seen to be a member: from then on it begins steps without asking.
  std::atomic<bool> has_joined{false};

  // Of a suspension, over all calls that wait for it: since when no agent holds the region; 0: one does.
  uint64_t agent_gone_since = 0;

  // Post-move callbacks: run by the lane that finds `is_notifying` clear; the others go on.
  evenkeel_post_move_fn post_move = nullptr;
  void* post_move_context = nullptr;
  std::atomic_flag is_notifying;
  std::atomic<uint64_t> num_requests_seen{0};
};

namespace evenkeel::engine {

inline bool IsLane(const evenkeel_region* region, int32_t lane) {
  return region != nullptr && lane >= 0 && lane < region->view.sizes().num_lanes;
}
inline bool IsPhase(evenkeel_phase phase) { return phase >= EVENKEEL_PHASE_OTHER && phase <= EVENKEEL_DECODE; }
inline bool IsLayer(const evenkeel_region* region, int32_t layer) {
  return region != nullptr && layer >= 0 && layer < region->view.sizes().num_layers;
}
inline bool IsLocalSlot(const evenkeel_region* region, int32_t local_slot) {
  return region != nullptr && local_slot >= 0 && local_slot < region->view.sizes().slots_per_rank;
}

// SlotState of the protocol.
inline constexpr uint32_t kSlotFree = 0;
inline constexpr uint32_t kSlotWriting = 1;
inline constexpr uint32_t kSlotVerified = 2;

// The status for the caller, who is also given its text where `out` is not null.
int Answer(const Error& error, evenkeel_error* out);

uint64_t MonotonicNs();

// What evenkeel_begin_step and evenkeel_begin_step_on have in common: a ticket, with the newest maps, or a status.
int64_t BeginTicket(evenkeel_region* region, int32_t lane, evenkeel_phase phase, evenkeel_kind kind, bool on_stream,
                    TakenMaps* taken);
// The step never was. Requires: `ticket` is the lane's newest, just begun.
void UndoTicket(evenkeel_region* region, int32_t lane, int64_t ticket, const TakenMaps& taken);
// Ends the tickets whose end the GPU has got to.
void EndDoneTickets(evenkeel_region* region, int32_t lane);

// Incarnation of `rank` in the newest view; 0: none, UINT64_MAX: no view has come yet.
uint64_t MemberIn(const RegionView& view, int rank);
bool IsMember(const RegionView& view);

}  // namespace evenkeel::engine
