// SPDX-License-Identifier: Apache-2.0
#include <time.h>

#include "engine/engine_region.h"
#include "engine/evenkeel.h"
#include "engine/region/hand_over.h"
#include "kernels/host/route.h"

namespace {

using evenkeel::engine::IsLane;
using evenkeel::engine::IsLayer;
using evenkeel::engine::IsLocalSlot;
using evenkeel::engine::IsPhase;
using evenkeel::engine::kSlotWriting;
using evenkeel::engine::kTicketsPerLane;
using evenkeel::engine::LaneCell;
using evenkeel::engine::MonotonicNs;
using evenkeel::engine::RegionSizes;
using evenkeel::engine::RegionView;
using evenkeel::engine::SlotCell;
using evenkeel::engine::Word;

// A ticket is the number of the lane's step, then the place of its record in the lane's ring.
constexpr int kRingBits = 6;
static_assert(1 << kRingBits == kTicketsPerLane);

// Flags that stay set are not stored again: the agent reads them.
void SetOnce(Word& word) {
  if (word.Load() == 0) word.Store(1);
}

// Calls back for every slot that the agent asks for and has not given up since. A lane that finds another one at it goes on; the maps that name
// those slots come only after the acknowledgement.
void RunPostMoves(evenkeel_region& region) {
  if (region.is_notifying.test_and_set(std::memory_order_acquire)) return;
  const RegionView& view = region.view;
  const uint64_t num_requests = view.header().num_post_move_requests.Load();
  for (int layer = 0; layer < view.sizes().num_layers; ++layer) {
    for (int local = 0; local < view.sizes().slots_per_rank; ++local) {
      SlotCell& slot = view.slot(layer, local);
      const uint64_t requested = slot.post_move_requested.Load();
      if (requested == slot.post_move_done.Load()) continue;
      const evenkeel::engine::SlotContent content = view.ReadSlot(layer, local);
      const bool awaited = content.state == kSlotWriting && content.generation == requested;
      if (awaited && region.post_move != nullptr) {
        region.post_move(region.post_move_context, layer, local, content.expert);
      }
      slot.post_move_done.Store(requested);
    }
  }
  region.num_requests_seen.store(num_requests, std::memory_order_relaxed);
  region.is_notifying.clear(std::memory_order_release);
}

void RunPostMovesIfAsked(evenkeel_region& region) {
  const uint64_t num_requests = region.view.header().num_post_move_requests.Load();
  if (num_requests != region.num_requests_seen.load(std::memory_order_relaxed)) RunPostMoves(region);
}

// A step's record is given up. `begun_ns`: of its time, where that is to be told; else 0.
void CloseTicket(evenkeel_region* region, int32_t lane, int ring, uint64_t begun_ns) {
  LaneCell& cell = region->view.lane(lane);
  EvenkeelLane& own = region->lanes[lane];
  const uint64_t bit = uint64_t{1} << ring;
  own.open &= ~bit;
  own.on_stream &= ~bit;
  own.ending &= ~bit;
  if (begun_ns != 0) {
    cell.timed_ns.Add(MonotonicNs() - begun_ns);
    cell.num_timed.Add(1);
  }
  EndStep(cell, ring);
  cell.num_ended.Store(++own.num_ended);
}

int EndTicket(evenkeel_region* region, int32_t lane, int64_t ticket, bool is_timed) {
  if (!IsLane(region, lane) || ticket <= 0) return EVENKEEL_INVALID_ARGUMENT;
  const auto number = static_cast<uint64_t>(ticket);
  const int ring = static_cast<int>(number % kTicketsPerLane);
  LaneCell& cell = region->view.lane(lane);
  const EvenkeelLane& own = region->lanes[lane];
  if ((own.open >> ring & 1) == 0 || (own.ending >> ring & 1) != 0 || cell.tickets[ring].ticket.Load() != number) {
    return EVENKEEL_FAILED_PRECONDITION;
  }
  CloseTicket(region, lane, ring, is_timed ? cell.tickets[ring].begun_ns.Load() : 0);
  return EVENKEEL_OK;
}

void SetMaps(const RegionView& view, const evenkeel::engine::TakenMaps& taken, EvenkeelLane& own) {
  own.bank = evenkeel::engine::BankOf(taken.newest);
  own.epoch = taken.epoch;
  own.maps_view = view.bank(own.bank).view_number.Load();
}

// The member words that `own`'s table has to be held against; none while the table knows all who came or went.
evenkeel::kernels::RouteMask MaskOf(const RegionView& view, const EvenkeelLane& own) {
  if (view.header().newest_change.Load() <= own.maps_view) return {};
  return {.lost = view.lost(),
          .joined = reinterpret_cast<const volatile uint64_t*>(view.joined()),
          .table_view = own.maps_view,
          .slots_per_rank = view.sizes().slots_per_rank};
}

}  // namespace

namespace evenkeel::engine {

uint64_t MonotonicNs() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
}

void EndDoneTickets(evenkeel_region* region, int32_t lane) {
  EvenkeelLane& own = region->lanes[lane];
  for (uint64_t left = own.ending; left != 0; left &= left - 1) {
    const int ring = __builtin_ctzll(left);
    auto& ticket = region->view.lane(lane).tickets[ring];
    if (IsOpen(ticket)) continue;
    // A step is timed from where the one before was seen to be over: the host may have begun both long ago.
    const uint64_t begun = ticket.begun_ns.Load();
    CloseTicket(region, lane, ring, begun > own.last_seen_done_ns ? begun : own.last_seen_done_ns);
    own.last_seen_done_ns = MonotonicNs();
  }
}

int64_t BeginTicket(evenkeel_region* region, int32_t lane, evenkeel_phase phase, evenkeel_kind kind, bool on_stream,
                    TakenMaps* taken) {
  if (!IsLane(region, lane) || !IsPhase(phase) || kind < EVENKEEL_REAL || kind > EVENKEEL_PROFILE) {
    return EVENKEEL_INVALID_ARGUMENT;
  }
  if (!region->is_ready) return EVENKEEL_FAILED_PRECONDITION;
  EvenkeelLane& own = region->lanes[lane];
  const RegionView& view = region->view;
  RunPostMovesIfAsked(*region);
  if (view.sizes().joining != 0 && !region->has_joined.load(std::memory_order_relaxed)) {
    if (!evenkeel::engine::IsMember(view)) return EVENKEEL_FAILED_PRECONDITION;
    region->has_joined.store(true, std::memory_order_relaxed);
  }
  EndDoneTickets(region, lane);
  if (~own.open == 0) return EVENKEEL_RESOURCE_EXHAUSTED;
  if (view.IsSuspended()) return EVENKEEL_FAILED_PRECONDITION;

  const int ring = __builtin_ctzll(~own.open);
  const uint64_t ticket = ++own.num_begun << kRingBits | static_cast<uint64_t>(ring);
  LaneCell& cell = view.lane(lane);
  *taken = on_stream ? BeginStreamStep(view, cell, ring, ticket, MonotonicNs(), own.held, own.num_copies + 1)
                     : BeginStep(view, cell, ring, ticket, MonotonicNs());
  own.open |= uint64_t{1} << ring;
  if (on_stream) own.on_stream |= uint64_t{1} << ring;
  // BeginStep has fenced: either this sees the suspension or the suspension sees the ticket.
  if (view.IsSuspended()) {
    UndoTicket(region, lane, static_cast<int64_t>(ticket), *taken);
    return EVENKEEL_FAILED_PRECONDITION;
  }
  SetMaps(view, *taken, own);
  const bool counts = view.sizes().counts_at_router() && kind == EVENKEEL_REAL && region->device == nullptr;
  own.counters = counts ? view.counters(lane, phase) : nullptr;
  cell.num_begun.Store(own.num_begun);
  if (cell.idle.Load() != 0) cell.idle.Store(0);
  SetOnce(view.header().called_begin_step);
  return static_cast<int64_t>(ticket);
}

void UndoTicket(evenkeel_region* region, int32_t lane, int64_t ticket, const TakenMaps& taken) {
  EvenkeelLane& own = region->lanes[lane];
  LaneCell& cell = region->view.lane(lane);
  const int ring = static_cast<int>(ticket % kTicketsPerLane);
  const uint64_t bit = uint64_t{1} << ring;
  // The bank's own earlier copy is done, or its maps would be those held.
  if ((own.on_stream & bit) != 0 && taken.newest != own.held) cell.copy_of_bank[BankOf(taken.newest)].Store(0);
  own.open &= ~bit;
  own.on_stream &= ~bit;
  EndStep(cell, ring);
  cell.num_begun.Store(--own.num_begun);
}

}  // namespace evenkeel::engine

int64_t evenkeel_begin_step(evenkeel_region* region, int32_t lane, evenkeel_phase phase, evenkeel_kind kind) {
  evenkeel::engine::TakenMaps taken;
  return evenkeel::engine::BeginTicket(region, lane, phase, kind, /*on_stream=*/false, &taken);
}

int evenkeel_end_step(evenkeel_region* region, int32_t lane, int64_t ticket) {
  const int status = EndTicket(region, lane, ticket, /*is_timed=*/true);
  if (status == EVENKEEL_OK) SetOnce(region->view.lane(lane).called_end_step);
  return status;
}

int evenkeel_abort_step(evenkeel_region* region, int32_t lane, int64_t ticket) {
  return EndTicket(region, lane, ticket, /*is_timed=*/false);
}

int evenkeel_reroute(evenkeel_region* region, int32_t lane, int64_t ticket) {
  if (!IsLane(region, lane) || ticket <= 0) return EVENKEEL_INVALID_ARGUMENT;
  EvenkeelLane& own = region->lanes[lane];
  const auto number = static_cast<uint64_t>(ticket);
  const bool is_open = ((own.open & ~own.on_stream) >> (number % kTicketsPerLane) & 1) != 0;
  if (!is_open || number >> kRingBits != own.num_begun) return EVENKEEL_FAILED_PRECONDITION;
  SetMaps(region->view, evenkeel::engine::TakeNewest(region->view, region->view.lane(lane)), own);
  return EVENKEEL_OK;
}

int evenkeel_set_idle(evenkeel_region* region, int32_t lane) {
  if (!IsLane(region, lane)) return EVENKEEL_INVALID_ARGUMENT;
  evenkeel::engine::EndDoneTickets(region, lane);
  if (!region->is_ready || region->lanes[lane].open != 0) return EVENKEEL_FAILED_PRECONDITION;
  RunPostMovesIfAsked(*region);
  region->view.lane(lane).idle.Store(1);
  return EVENKEEL_OK;
}

int evenkeel_route(evenkeel_region* region, int32_t lane, int32_t layer, const void* ids, int32_t id_bytes,
                   int64_t num_tokens, int32_t top_k, int64_t row_stride, int64_t first_token, int32_t* slots) {
  if (!IsLane(region, lane) || !IsLayer(region, layer) || (id_bytes != 4 && id_bytes != 8) || num_tokens < 0 ||
      top_k < 1 || row_stride < 0 || first_token < 0 || (num_tokens > 0 && (ids == nullptr || slots == nullptr))) {
    return EVENKEEL_INVALID_ARGUMENT;
  }
  const EvenkeelLane& own = region->lanes[lane];
  if (own.num_begun == 0 || region->device != nullptr) return EVENKEEL_FAILED_PRECONDITION;
  const RegionView& view = region->view;
  const RegionSizes& sizes = view.sizes();
  const auto table = view.table(own.bank, layer);
  Word* counters = own.counters == nullptr ? nullptr : own.counters + int64_t{layer} * sizes.slots_counted();
  const uint64_t step = own.num_begun * evenkeel::engine::kLanesMax + static_cast<uint64_t>(lane);
  const int64_t num_unknown = evenkeel::kernels::Route(
      {.offsets = table.offsets, .slots = table.slots, .bounds = table.bounds, .num_experts = sizes.num_experts},
      {.ids = ids,
       .id_bytes = id_bytes,
       .top_k = top_k,
       .num_tokens = num_tokens,
       .row_stride = row_stride,
       .first_token = first_token},
      evenkeel::kernels::RouteSalt(static_cast<uint32_t>(sizes.rank), static_cast<uint32_t>(layer), step),
      MaskOf(view, own),
      {.routed = reinterpret_cast<uint64_t*>(counters),
       .unrouted = reinterpret_cast<uint64_t*>(view.unrouted(lane) + int64_t{layer} * sizes.num_experts)},
      slots);
  SetOnce(view.lane(lane).called_route);
  return num_unknown == 0 ? EVENKEEL_OK : EVENKEEL_INVALID_ARGUMENT;
}

int evenkeel_count(evenkeel_region* region, int32_t thread, evenkeel_phase phase, int32_t layer, int32_t local_slot,
                   uint64_t num_tokens) {
  if (!IsPhase(phase) || !IsLayer(region, layer) || !IsLocalSlot(region, local_slot) || thread < 0 ||
      thread >= region->view.sizes().num_counting_threads) {
    return EVENKEEL_INVALID_ARGUMENT;
  }
  if (region->view.sizes().counts_at_router() || region->device != nullptr) return EVENKEEL_FAILED_PRECONDITION;
  region->view.counters(thread, phase)[int64_t{layer} * region->view.sizes().slots_per_rank + local_slot].Add(
      num_tokens);
  return EVENKEEL_OK;
}

int evenkeel_report_calls_waited(evenkeel_region* region, uint64_t num_calls) {
  if (region == nullptr) return EVENKEEL_INVALID_ARGUMENT;
  region->view.header().num_calls_waited.Store(num_calls);
  return EVENKEEL_OK;
}
