// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>

#include "engine/engine_region.h"
#include "engine/evenkeel.h"
#include "engine/shares_row.h"

namespace {

using evenkeel::engine::IsLane;
using evenkeel::engine::IsLayer;
using evenkeel::engine::LayerTable;
using evenkeel::engine::RegionSizes;
using evenkeel::engine::RenderShares;
using evenkeel::engine::Replicas;

constexpr uint32_t kSlotVerified = 2;

LayerTable TableOf(const evenkeel_region* region, int32_t lane, int32_t layer) {
  return region->view.table(region->lanes[lane].bank, layer);
}

Replicas ReplicasOf(const LayerTable& table, int32_t expert) {
  const int32_t first = table.offsets[expert];
  return {table.slots + first, table.bounds + first, table.offsets[expert + 1] - first};
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
