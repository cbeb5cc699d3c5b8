// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <limits>

#include "engine/engine_region.h"
#include "engine/evenkeel.h"

namespace {

using evenkeel::engine::IsLane;
using evenkeel::engine::IsLayer;
using evenkeel::engine::LayerTable;
using evenkeel::engine::RegionSizes;

constexpr uint64_t kShareUnits = uint64_t{1} << 32;
constexpr uint32_t kSlotVerified = 2;

LayerTable TableOf(const evenkeel_region* region, int32_t lane, int32_t layer) {
  return region->view.table(region->lanes[lane].bank, layer);
}

// The replicas of one expert within a table.
struct Replicas {
  const int32_t* slots;
  const uint32_t* bounds;
  int32_t count;

  uint64_t units(int32_t i) const {
    const uint64_t begin = i == 0 ? 0 : uint64_t{bounds[i - 1]} + 1;
    return (i == count - 1 ? kShareUnits : uint64_t{bounds[i]} + 1) - begin;
  }
  // End of replica i's entries among `num_entries` in all, the one before it ending at `begin`: the running sum of
  // the shares, rounded, with at least one entry each.
  int64_t EntriesEnd(int32_t i, int64_t begin, int64_t num_entries) const {
    const uint64_t end_units = i == count - 1 ? kShareUnits : uint64_t{bounds[i]} + 1;
    const uint64_t wanted = (end_units * static_cast<uint64_t>(num_entries) + kShareUnits / 2) / kShareUnits;
    return std::clamp(static_cast<int64_t>(wanted), begin + 1, num_entries - (count - 1 - i));
  }
  // Sum of the differences to the shares, in units.
  uint64_t ErrorOf(int64_t num_entries) const {
    uint64_t error = 0;
    int64_t begin = 0;
    for (int32_t i = 0; i < count; ++i) {
      const int64_t end = EntriesEnd(i, begin, num_entries);
      const uint64_t given = static_cast<uint64_t>(end - begin) * kShareUnits / static_cast<uint64_t>(num_entries);
      error += given > units(i) ? given - units(i) : units(i) - given;
      begin = end;
    }
    return error;
  }
};

Replicas ReplicasOf(const LayerTable& table, int32_t expert) {
  const int32_t first = table.offsets[expert];
  return {table.slots + first, table.bounds + first, table.offsets[expert + 1] - first};
}

// Writes the entries so that those of one replica are spread; returns their number: the smallest up to `width` that
// is within 1/512 of the best.
int32_t RenderShares(const Replicas& replicas, int32_t width, int32_t* entries) {
  int64_t best = replicas.count;
  uint64_t best_error = std::numeric_limits<uint64_t>::max();
  for (int64_t n = replicas.count; n <= width; ++n) {
    const uint64_t error = replicas.ErrorOf(n);
    if (best_error == std::numeric_limits<uint64_t>::max() || error + kShareUnits / 512 < best_error) {
      best = n;
      best_error = error;
    }
  }
  int32_t written = 0;
  for (int64_t pass = 0; written < best; ++pass) {
    int64_t begin = 0;
    for (int32_t i = 0; i < replicas.count; ++i) {
      const int64_t end = replicas.EntriesEnd(i, begin, best);
      if (end - begin > pass) entries[written++] = replicas.slots[i];
      begin = end;
    }
  }
  return written;
}

}  // namespace

uint64_t evenkeel_epoch(const evenkeel_region* region, int32_t lane) {
  return IsLane(region, lane) ? region->lanes[lane].epoch : 0;
}

int evenkeel_physical_to_logical(const evenkeel_region* region, int32_t lane, int32_t layer, int32_t* experts) {
  if (!IsLane(region, lane) || !IsLayer(region, layer) || experts == nullptr) return EVENKEEL_INVALID_ARGUMENT;
  const RegionSizes& sizes = region->view.sizes();
  const LayerTable table = TableOf(region, lane, layer);
  std::fill(experts, experts + sizes.num_slots(), -1);
  for (int32_t e = 0; e < sizes.num_experts; ++e) {
    for (int32_t i = table.offsets[e]; i < table.offsets[e + 1]; ++i) experts[table.slots[i]] = e;
  }
  return EVENKEEL_OK;
}

int evenkeel_logical_to_physical(const evenkeel_region* region, int32_t lane, int32_t layer, int32_t width,
                                 int32_t* slots, int32_t* counts) {
  if (!IsLane(region, lane) || !IsLayer(region, layer) || width < 1 || slots == nullptr || counts == nullptr) {
    return EVENKEEL_INVALID_ARGUMENT;
  }
  const RegionSizes& sizes = region->view.sizes();
  const LayerTable table = TableOf(region, lane, layer);
  for (int32_t e = 0; e < sizes.num_experts; ++e) {
    if (ReplicasOf(table, e).count > width) return EVENKEEL_INVALID_ARGUMENT;
  }
  for (int32_t e = 0; e < sizes.num_experts; ++e) {
    int32_t* row = slots + int64_t{e} * width;
    std::fill(row, row + width, -1);
    const Replicas replicas = ReplicasOf(table, e);
    counts[e] = replicas.count == 0 ? 0 : RenderShares(replicas, width, row);
  }
  return EVENKEEL_OK;
}

int evenkeel_expert_map(const evenkeel_region* region, int32_t lane, int32_t layer, int32_t rank,
                        int32_t* local_slots) {
  if (!IsLane(region, lane) || !IsLayer(region, layer) || rank < 0 || rank >= region->view.sizes().num_ranks ||
      local_slots == nullptr) {
    return EVENKEEL_INVALID_ARGUMENT;
  }
  const RegionSizes& sizes = region->view.sizes();
  const LayerTable table = TableOf(region, lane, layer);
  for (int32_t e = 0; e < sizes.num_experts; ++e) {
    local_slots[e] = -1;
    for (int32_t i = table.offsets[e + 1] - 1; i >= table.offsets[e]; --i) {
      if (table.slots[i] / sizes.slots_per_rank == rank) local_slots[e] = table.slots[i] % sizes.slots_per_rank;
    }
  }
  return EVENKEEL_OK;
}

int evenkeel_slot_content(const evenkeel_region* region, int32_t layer, int32_t local_slot, int32_t* expert,
                          uint64_t* generation, int32_t* verified) {
  if (!IsLayer(region, layer) || !evenkeel::engine::IsLocalSlot(region, local_slot) || expert == nullptr ||
      generation == nullptr || verified == nullptr) {
    return EVENKEEL_INVALID_ARGUMENT;
  }
  const auto content = region->view.ReadSlot(layer, local_slot);
  *expert = content.expert;
  *generation = content.generation;
  *verified = content.state == kSlotVerified ? 1 : 0;
  return EVENKEEL_OK;
}
