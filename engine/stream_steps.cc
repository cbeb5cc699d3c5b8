// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>
#include <cstring>

#include "engine/engine_region.h"
#include "engine/evenkeel_cuda.h"

namespace {

using evenkeel::engine::Error;
using evenkeel::engine::ErrorCode;
using evenkeel::engine::IsLane;
using evenkeel::engine::IsLayer;
using evenkeel::engine::kPhases;
using evenkeel::engine::kTicketsPerLane;
using evenkeel::engine::MakeError;
using evenkeel::engine::MonotonicNs;
using evenkeel::engine::RegionSizes;
using evenkeel::engine::RegionView;
using evenkeel::kernels::CudaSteps;

// What is unrouted tells of trouble, and is much: not copied off the GPU with each step.
constexpr uint64_t kUnroutedEveryNs = 100'000'000;

CudaSteps::Sizes SizesOf(const RegionView& view) {
  const RegionSizes& sizes = view.sizes();
  const auto layers = static_cast<uint64_t>(sizes.num_layers);
  return {.num_lanes = sizes.num_lanes,
          .num_ranks = sizes.num_ranks,
          .num_phases = kPhases,
          .tables_bytes = view.offsets().table_stride * layers,
          .table_stride = view.offsets().table_stride,
          .counters_bytes = layers * static_cast<uint64_t>(sizes.slots_counted()) * sizeof(uint64_t),
          .unrouted_bytes = layers * static_cast<uint64_t>(sizes.num_experts) * sizeof(uint64_t),
          .num_experts = sizes.num_experts,
          .num_slots = sizes.num_slots(),
          .slots_per_rank = sizes.slots_per_rank,
          .rank = static_cast<uint32_t>(sizes.rank),
          .counts_routed = sizes.counts_at_router()};
}

Error OpenDevice(evenkeel_region& region, int32_t ordinal) {
  const RegionView& view = region.view;
  const RegionSizes& sizes = view.sizes();
  uint64_t num_begun = 0;
  for (const EvenkeelLane& lane : region.lanes) num_begun += lane.num_begun;
  if (!region.is_ready || region.device != nullptr || num_begun != 0) {
    return MakeError(ErrorCode::kFailedPrecondition, "open device: it is opened once, after ready, before any step");
  }
  if (sizes.num_counters() < sizes.num_lanes) {
    return MakeError(ErrorCode::kInvalidArgument, "open device: num_counting_threads is %d, num_lanes %d",
                     sizes.num_counting_threads, sizes.num_lanes);
  }
  std::byte* const begin = view.memory().payload() - sizeof(evenkeel::engine::ObjectHeader);
  const uint64_t bytes = sizeof(evenkeel::engine::ObjectHeader) + view.offsets().weights;
  const CudaSteps::MaskAt mask = {.lost = view.lost(), .joined = view.joined(), .change = &view.header().newest_change};
  evenkeel::kernels::CudaUuid uuid;
  const auto opened = CudaSteps::Open(ordinal, SizesOf(view), begin, bytes, mask, &uuid, &region.device);
  if (!opened.ok()) return MakeError(ErrorCode::kFailedPrecondition, "open device %d: %s", ordinal, opened.text);
  if (view.on_device() && std::memcmp(uuid.bytes, view.header().device_uuid, sizeof(uuid.bytes)) != 0) {
    region.device.reset();
    return MakeError(ErrorCode::kInvalidArgument, "open device %d: the tensors are on another GPU", ordinal);
  }
  return {};
}

bool IsUsable(const evenkeel_region* region, int32_t lane) { return IsLane(region, lane) && region->device != nullptr; }

int StatusOf(const evenkeel::kernels::CudaFailure& failure) { return failure.ok() ? EVENKEEL_OK : EVENKEEL_INTERNAL; }

}  // namespace

uint64_t evenkeel_device_bytes(const evenkeel_region* region) {
  return region == nullptr ? 0 : CudaSteps::bytes_of(SizesOf(region->view));
}

int evenkeel_open_device(evenkeel_region* region, int32_t ordinal, evenkeel_error* error) {
  if (region == nullptr) return Answer(MakeError(ErrorCode::kInvalidArgument, "open device: region is null"), error);
  return Answer(OpenDevice(*region, ordinal), error);
}

int64_t evenkeel_begin_step_on(evenkeel_region* region, int32_t lane, evenkeel_phase phase, evenkeel_kind kind,
                               void* stream) {
  if (!IsLane(region, lane)) return EVENKEEL_INVALID_ARGUMENT;
  if (region->device == nullptr) return EVENKEEL_FAILED_PRECONDITION;
  evenkeel::engine::TakenMaps taken;
  const int64_t ticket = evenkeel::engine::BeginTicket(region, lane, phase, kind, /*on_stream=*/true, &taken);
  if (ticket < 0) return ticket;
  EvenkeelLane& own = region->lanes[lane];
  const RegionView& view = region->view;
  CudaSteps::Begin begin;
  begin.step = own.num_begun * evenkeel::engine::kLanesMax + static_cast<uint64_t>(lane);
  begin.table_view = own.maps_view;
  begin.phase = kind == EVENKEEL_REAL ? static_cast<int>(phase) : -1;
  if (taken.newest != own.held) {
    begin.tables = view.table(own.bank, 0).offsets;
    begin.copied = &view.lane(lane).copies_done;
    begin.copy = own.num_copies + 1;
  }
  // Read before the mask is: what comes in between is brought by the next step.
  const uint64_t change = view.header().newest_change.Load();
  begin.takes_mask = change != own.mask_pushed;
  if (!region->device->BeginStep(lane, begin, stream).ok()) {
    UndoTicket(region, lane, ticket, taken);
    return EVENKEEL_INTERNAL;
  }
  own.mask_pushed = change;
  if (taken.newest != own.held) ++own.num_copies;
  own.held = taken.newest;
  own.counted_phase[ticket % kTicketsPerLane] = static_cast<int8_t>(begin.phase);
  return ticket;
}

int evenkeel_end_step_on(evenkeel_region* region, int32_t lane, int64_t ticket, void* stream) {
  if (!IsLane(region, lane) || ticket <= 0) return EVENKEEL_INVALID_ARGUMENT;
  EvenkeelLane& own = region->lanes[lane];
  const RegionView& view = region->view;
  const auto ring = static_cast<int>(ticket % kTicketsPerLane);
  auto& cell = view.lane(lane).tickets[ring];
  if (((own.on_stream & ~own.ending) >> ring & 1) == 0 || cell.ticket.Load() != static_cast<uint64_t>(ticket)) {
    return EVENKEEL_FAILED_PRECONDITION;
  }
  CudaSteps::End end;
  const uint64_t now = MonotonicNs();
  const bool brings_unrouted = now - own.last_unrouted_ns >= kUnroutedEveryNs;
  if (own.counted_phase[ring] >= 0) {
    end.phase = own.counted_phase[ring];
    end.counters = view.counters(lane, end.phase);
  }
  if (brings_unrouted) end.unrouted = view.unrouted(lane);
  end.done = &cell.done;
  end.ticket = static_cast<uint64_t>(ticket);
  if (!region->device->EndStep(lane, end, stream).ok()) return EVENKEEL_INTERNAL;
  if (brings_unrouted) own.last_unrouted_ns = now;
  own.ending |= uint64_t{1} << ring;
  auto& called = view.lane(lane).called_end_step;
  if (called.Load() == 0) called.Store(1);
  return EVENKEEL_OK;
}

int evenkeel_route_on(evenkeel_region* region, int32_t lane, int32_t layer, const void* ids, int32_t id_bytes,
                      int64_t num_tokens, int32_t top_k, int64_t row_stride, int64_t first_token, int32_t* slots,
                      void* stream) {
  if (!IsLane(region, lane) || !IsLayer(region, layer) || (id_bytes != 4 && id_bytes != 8) || num_tokens < 0 ||
      top_k < 1 || row_stride < top_k || first_token < 0 || (num_tokens > 0 && (ids == nullptr || slots == nullptr))) {
    return EVENKEEL_INVALID_ARGUMENT;
  }
  if (!IsUsable(region, lane)) return EVENKEEL_FAILED_PRECONDITION;
  auto& called = region->view.lane(lane).called_route;
  if (called.Load() == 0) called.Store(1);
  return StatusOf(region->device->Route(lane, layer,
                                        {.ids = ids,
                                         .id_bytes = id_bytes,
                                         .top_k = top_k,
                                         .num_tokens = num_tokens,
                                         .row_stride = row_stride,
                                         .first_token = first_token},
                                        slots, stream));
}

int evenkeel_add_counts_on(evenkeel_region* region, int32_t lane, int32_t layer, const void* values,
                           int32_t value_bytes, int32_t cumulative, void* stream) {
  if (!IsLane(region, lane) || !IsLayer(region, layer) || values == nullptr || (value_bytes != 4 && value_bytes != 8)) {
    return EVENKEEL_INVALID_ARGUMENT;
  }
  if (!IsUsable(region, lane) || region->view.sizes().counts_at_router()) return EVENKEEL_FAILED_PRECONDITION;
  return StatusOf(region->device->AddCounts(
      lane, layer, {.values = values, .value_bytes = value_bytes, .cumulative = cumulative != 0}, stream));
}

int evenkeel_push_lost(evenkeel_region* region) {
  if (region == nullptr) return EVENKEEL_INVALID_ARGUMENT;
  if (region->device == nullptr) return EVENKEEL_FAILED_PRECONDITION;
  return StatusOf(region->device->PushMask());
}
