// SPDX-License-Identifier: Apache-2.0
//
// The one stretch of time in which the engine changes weights that it has shown to others (protocol, rule 22).
//
// The engine makes `suspension` odd, fences, and waits for its own steps and for the agent to grant that number. A step
// or a batch for others that begins meanwhile either sees the odd number or is seen. Where no agent holds the region
// the engine takes the agent's lock, grants it to itself and gives the lock back: an agent that comes finds it granted.
#include <time.h>

#include <cinttypes>
#include <vector>

#include "engine/device_tensors.h"
#include "engine/engine_region.h"
#include "engine/evenkeel.h"
#include "engine/region/hand_over.h"

namespace {

using evenkeel::engine::Answer;
using evenkeel::engine::Error;
using evenkeel::engine::ErrorCode;
using evenkeel::engine::IsLayer;
using evenkeel::engine::IsLocalSlot;
using evenkeel::engine::IsOpen;
using evenkeel::engine::kAgentLockByte;
using evenkeel::engine::kSlotFree;
using evenkeel::engine::kSlotVerified;
using evenkeel::engine::kSlotWriting;
using evenkeel::engine::LaneCell;
using evenkeel::engine::MakeError;
using evenkeel::engine::RegionView;
using evenkeel::engine::SlotContent;

constexpr uint64_t kSecond = 1'000'000'000;
constexpr double kSecondsMax = 24 * 3600;
constexpr long kLookEveryNs = 200'000;
// So long after an agent has gone its last writes have landed (rule 19), and those who read here have seen that they are
// to stop; a successor that comes sooner sees to it itself.
constexpr uint64_t kSettled = kSecond;

uint64_t MonotonicNs() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * kSecond + static_cast<uint64_t>(now.tv_nsec);
}

bool IsGranted(const RegionView& view) {
  return view.IsSuspended() && view.header().suspension_granted.Load() == view.header().suspension.Load();
}

bool AnyStepOpen(const RegionView& view) {
  for (int l = 0; l < view.num_lanes(); ++l) {
    LaneCell& lane = view.lane(l);
    if (lane.announced.Load() == LaneCell::kChoosing) return true;
    for (auto& open : lane.tickets) {
      if (IsOpen(open)) return true;
    }
  }
  for (int t = 0; t < view.num_serving(); ++t) {
    if (view.serving(t).accepted.Load() != 0) return true;
  }
  return false;
}

// Calls `visit` with every slot and its content.
template <typename Visit>
void ForEachSlot(const RegionView& view, Visit visit) {
  for (int layer = 0; layer < view.sizes().num_layers; ++layer) {
    for (int local = 0; local < view.sizes().slots_per_rank; ++local) visit(layer, local, view.ReadSlot(layer, local));
  }
}

// Grants to itself, where there is no agent to do so. Requires: no step is open.
void GrantAlone(evenkeel_region& region, uint64_t now) {
  RegionView& view = region.view;
  if (view.memory().IsLockedElsewhere(kAgentLockByte)) {
    region.agent_gone_since = 0;
    return;
  }
  if (region.agent_gone_since == 0) region.agent_gone_since = now;
  const bool had_agent = view.header().agent_pid.Load() != 0;
  if (had_agent && now - region.agent_gone_since < kSettled) return;
  const auto locked = view.memory().TryLock(kAgentLockByte);
  if (!locked.ok() || !locked.value) return;
  ForEachSlot(view, [&](int layer, int local, const SlotContent& slot) {
    if (slot.state == kSlotWriting) {
      view.WriteSlot(layer, local, {.state = kSlotFree, .expert = -1, .generation = slot.generation});
    }
  });
  view.header().suspension_granted.StoreAndFence(view.header().suspension.Load());
  view.memory().Unlock(kAgentLockByte);
}

Error Suspend(evenkeel_region& region, double seconds) {
  RegionView& view = region.view;
  auto& suspension = view.header().suspension;
  if (!region.is_ready) return MakeError(ErrorCode::kFailedPrecondition, "suspend: before evenkeel_ready");
  if (!view.IsSuspended()) {
    region.agent_gone_since = 0;
    suspension.StoreAndFence(suspension.Load() + 1);
  }
  const uint64_t deadline = MonotonicNs() + static_cast<uint64_t>(seconds * static_cast<double>(kSecond));
  for (;;) {
    const bool is_open = AnyStepOpen(view);
    if (!is_open && IsGranted(view)) return {};
    const uint64_t now = MonotonicNs();
    if (!is_open) GrantAlone(region, now);
    if (!is_open && IsGranted(view)) return {};
    if (now >= deadline) {
      return MakeError(ErrorCode::kDeadlineExceeded, "suspend: %s after %.3f s",
                       is_open ? "a step is open or something is served" : "copies of the slots have not ended",
                       seconds);
    }
    const timespec pause = {0, kLookEveryNs};
    ::nanosleep(&pause, nullptr);
  }
}

Error Resume(evenkeel_region& region, uint64_t weights_version) {
  RegionView& view = region.view;
  auto& header = view.header();
  const uint64_t suspension = header.suspension.Load();
  if (!view.IsSuspended()) return MakeError(ErrorCode::kFailedPrecondition, "resume: not suspended");
  if (IsGranted(view)) {
    header.weights_version.Store(weights_version);
    const auto slots_per_rank = static_cast<size_t>(view.sizes().slots_per_rank);
    std::vector<uint64_t> fingerprints(static_cast<size_t>(view.sizes().num_layers) * slots_per_rank);
    if (Error error = FingerprintLayers(view, fingerprints.data()); !error.ok()) return error;
    ForEachSlot(view, [&](int layer, int local, const SlotContent& slot) {
      SlotContent fresh = slot;
      ++fresh.generation;
      const size_t index = static_cast<size_t>(layer) * slots_per_rank + static_cast<size_t>(local);
      if (slot.state == kSlotVerified) fresh.fingerprint = fingerprints[index];
      view.WriteSlot(layer, local, fresh);
    });
  } else if (weights_version != header.weights_version.Load()) {
    return MakeError(ErrorCode::kFailedPrecondition,
                     "resume: evenkeel_suspend has not succeeded; the version stays %" PRIu64,
                     header.weights_version.Load());
  }
  header.suspension.StoreAndFence(suspension + 1);
  return {};
}

}  // namespace

int evenkeel_suspend(evenkeel_region* region, double seconds, evenkeel_error* error) {
  if (region == nullptr || !(seconds >= 0 && seconds <= kSecondsMax)) {
    return Answer(
        MakeError(ErrorCode::kInvalidArgument, "suspend: region is null, or seconds not from 0 to %.0f", kSecondsMax),
        error);
  }
  return Answer(Suspend(*region, seconds), error);
}

int32_t evenkeel_reload_expert(const evenkeel_region* region, int32_t layer, int32_t local_slot) {
  if (!IsLayer(region, layer) || !IsLocalSlot(region, local_slot)) return EVENKEEL_INVALID_ARGUMENT;
  if (!IsGranted(region->view)) return EVENKEEL_FAILED_PRECONDITION;
  const SlotContent slot = region->view.ReadSlot(layer, local_slot);
  return slot.state == kSlotVerified ? slot.expert : -1;
}

int evenkeel_resume(evenkeel_region* region, uint64_t weights_version, evenkeel_error* error) {
  if (region == nullptr) return Answer(MakeError(ErrorCode::kInvalidArgument, "resume: region is null"), error);
  return Answer(Resume(*region, weights_version), error);
}

uint64_t evenkeel_weights_version(const evenkeel_region* region) {
  return region == nullptr ? 0 : region->view.header().weights_version.Load();
}
