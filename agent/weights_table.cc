// SPDX-License-Identifier: Apache-2.0
#include "agent/weights_table.h"

#include "algos/base/ids.h"
#include "algos/placement.h"

namespace evenkeel::agent {

WeightsTable TableOf(const engine::AgentRegion& region) {
  const algos::Shape& shape = region.group().shape;
  const RankId rank = region.member().rank;
  const std::byte* base = region.weights().base;
  WeightsTable table;
  table.slots_per_rank = shape.slots_per_rank;
  for (int l = 0; l < region.group().num_layers; ++l) {
    const auto first = region.SlotBytes(LayerId(l), shape.SlotAt(rank, 0));
    const auto last = region.SlotBytes(LayerId(l), shape.SlotAt(rank, shape.slots_per_rank - 1));
    std::vector<TensorPlace> tensors;
    for (size_t t = 0; t < first.size(); ++t) {
      TensorPlace place;
      place.offset = static_cast<uint64_t>(first[t].data() - base);
      place.bytes = first[t].size();
      const uint64_t span = static_cast<uint64_t>(last[t].data() - first[t].data());
      place.stride = shape.slots_per_rank > 1 ? span / static_cast<uint64_t>(shape.slots_per_rank - 1) : place.bytes;
      tensors.push_back(place);
    }
    table.layers.push_back(std::move(tensors));
  }
  return table;
}

std::span<std::byte> SegmentOf(const engine::AgentRegion& region) {
  return {region.weights().base, region.weights().bytes};
}

}  // namespace evenkeel::agent
