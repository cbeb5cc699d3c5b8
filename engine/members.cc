// SPDX-License-Identifier: Apache-2.0
#include <time.h>

#include "engine/engine_region.h"
#include "engine/evenkeel.h"
#include "engine/region/hand_over.h"

namespace evenkeel::engine {

namespace {

// A view is gone only where newer ones have come meanwhile: asked again so often.
constexpr int kReadsMax = 1000;

}  // namespace

uint64_t MemberIn(const RegionView& view, int rank) {
  for (int i = 0; i < kReadsMax; ++i) {
    const uint64_t number = view.newest_view().Load();
    uint64_t incarnation = 0;
    if (number == 0) return view.sizes().joining == 0 && rank < view.sizes().world ? UINT64_MAX : 0;
    if (view.FindMember(number, rank, &incarnation)) return incarnation;
  }
  return 0;
}

bool IsMember(const RegionView& view) {
  const uint64_t incarnation = MemberIn(view, view.sizes().rank);
  if (incarnation != UINT64_MAX && incarnation != view.header().incarnation.Load()) return false;
  return view.sizes().joining == 0 || view.bank_epoch(BankOf(view.newest().Load())).Load() != 0;
}

}  // namespace evenkeel::engine

namespace {

using evenkeel::engine::IsLane;
using evenkeel::engine::RegionView;

uint64_t MonotonicNs() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

int evenkeel_is_member(const evenkeel_region* region) {
  if (region == nullptr) return EVENKEEL_INVALID_ARGUMENT;
  return evenkeel::engine::IsMember(region->view) ? 1 : 0;
}

uint64_t evenkeel_member(const evenkeel_region* region, int32_t rank) {
  if (region == nullptr || rank < 0 || rank >= region->view.sizes().num_ranks) return 0;
  return evenkeel::engine::MemberIn(region->view, rank);
}

int evenkeel_serve_begin(evenkeel_region* region, int32_t thread, int32_t peer_rank, uint64_t peer_incarnation) {
  if (region == nullptr || thread < 0 || thread >= region->view.sizes().num_counting_threads || peer_rank < 0 ||
      peer_rank >= region->view.sizes().num_ranks || peer_incarnation == 0) {
    return EVENKEEL_INVALID_ARGUMENT;
  }
  const RegionView& view = region->view;
  auto& serving = view.serving(thread);
  if (serving.accepted.Load() != 0) return EVENKEEL_FAILED_PRECONDITION;
  const bool accepted = evenkeel::engine::BeginServing(view, serving, [&](uint64_t view_number) {
    uint64_t incarnation = 0;
    if (view.IsSuspended()) return false;
    // In view 0 every rank of the world is a member, whatever its incarnation; one that joins knows nobody.
    if (view_number == 0) return view.sizes().joining == 0 && peer_rank < view.sizes().world;
    return view.FindMember(view_number, peer_rank, &incarnation) && incarnation == peer_incarnation;
  });
  return accepted ? EVENKEEL_OK : EVENKEEL_FAILED_PRECONDITION;
}

int evenkeel_serve_end(evenkeel_region* region, int32_t thread) {
  if (region == nullptr || thread < 0 || thread >= region->view.sizes().num_counting_threads) {
    return EVENKEEL_INVALID_ARGUMENT;
  }
  auto& serving = region->view.serving(thread);
  if (serving.accepted.Load() == 0) return EVENKEEL_FAILED_PRECONDITION;
  EndServing(serving);
  return EVENKEEL_OK;
}

const volatile uint32_t* evenkeel_lost_ranks(const evenkeel_region* region) {
  return region == nullptr ? nullptr : region->view.lost();
}

int evenkeel_report_waiting(evenkeel_region* region, int32_t lane, int32_t rank) {
  if (!IsLane(region, lane) || rank < -1 || rank >= region->view.sizes().num_ranks) return EVENKEEL_INVALID_ARGUMENT;
  region->view.lane(lane).waiting_for.Store(static_cast<uint64_t>(rank + 1));
  return EVENKEEL_OK;
}

int evenkeel_leave(evenkeel_region* region) {
  if (region == nullptr) return EVENKEEL_INVALID_ARGUMENT;
  region->view.header().leaving.Store(1);
  return EVENKEEL_OK;
}

int evenkeel_busy_lease(evenkeel_region* region, double seconds) {
  constexpr double kSecondsMax = 24 * 3600;
  if (region == nullptr || !(seconds >= 0 && seconds <= kSecondsMax)) return EVENKEEL_INVALID_ARGUMENT;
  region->view.header().busy_until_ns.Store(MonotonicNs() + static_cast<uint64_t>(seconds * 1e9));
  return EVENKEEL_OK;
}
