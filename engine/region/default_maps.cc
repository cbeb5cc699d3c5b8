// SPDX-License-Identifier: Apache-2.0
#include "engine/region/default_maps.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "algos/base/hash.h"

namespace evenkeel::engine {

namespace {

constexpr double kUnits = 0x1.0p32;

// Inclusive bounds of `count` even shares, with the rounding of algos/layer_map.
void WriteEvenBounds(int count, uint32_t* bounds) {
  double sum = 0;
  for (int i = 0; i < count; ++i) {
    sum += 1.0 / count;
    const auto wanted = static_cast<uint64_t>(std::floor(sum * kUnits + 0.5));
    const uint64_t low = i == 0 ? 1 : uint64_t{bounds[i - 1]} + 2;
    const uint64_t high = (uint64_t{1} << 32) - static_cast<uint64_t>(count - 1 - i);
    bounds[i] = static_cast<uint32_t>(std::clamp(wanted, low, high) - 1);
  }
  if (count > 0) bounds[count - 1] = UINT32_MAX;
}

void WriteDefaultTable(const RegionSizes& sizes, const LayerTable& table) {
  std::fill(table.offsets, table.offsets + sizes.num_experts + 1, 0);
  const auto expert_of = [&sizes](int slot) {
    return DefaultExpert(sizes, slot / sizes.slots_per_rank, slot % sizes.slots_per_rank);
  };
  // Counting sort: ends of the experts first, then filled from behind.
  const int num_slots = sizes.world * sizes.slots_per_rank;
  for (int slot = 0; slot < num_slots; ++slot) ++table.offsets[expert_of(slot)];
  for (int e = 1; e <= sizes.num_experts; ++e) table.offsets[e] += table.offsets[e - 1];
  for (int slot = num_slots - 1; slot >= 0; --slot) table.slots[--table.offsets[expert_of(slot)]] = slot;
  for (int e = 0; e < sizes.num_experts; ++e) {
    WriteEvenBounds(table.offsets[e + 1] - table.offsets[e], table.bounds + table.offsets[e]);
  }
}

uint64_t DigestOfTable(const RegionSizes& sizes, const LayerTable& table) {
  Digest digest;
  for (int e = 0; e <= sizes.num_experts; ++e) digest.Add(static_cast<uint32_t>(table.offsets[e]));
  for (int i = 0; i < table.offsets[sizes.num_experts]; ++i) {
    digest.Add(static_cast<uint64_t>(table.slots[i]) << 32 | table.bounds[i]);
  }
  return digest.value();
}

}  // namespace

int DefaultExpert(const RegionSizes& sizes, int rank, int local_slot) {
  if (rank >= sizes.world) return -1;
  const int64_t first = int64_t{rank} * sizes.num_experts / sizes.world;
  return static_cast<int>((first + local_slot) % sizes.num_experts);
}

void WriteDefaultMaps(const RegionView& region, uint32_t bank) {
  const RegionSizes& sizes = region.sizes();
  Digest digest;
  for (int layer = 0; layer < sizes.num_layers; ++layer) {
    WriteDefaultTable(sizes, region.table(bank, layer));
    digest.Add(DigestOfTable(sizes, region.table(bank, layer)));
  }
  region.bank(bank).epoch.Store(0);
  region.bank(bank).view_number.Store(0);
  region.bank(bank).digest.Store(digest.value());
}

}  // namespace evenkeel::engine
