// SPDX-License-Identifier: Apache-2.0
//
// WeightsTable: where a rank's per-expert tensors lie within its weights segment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/region/agent_region.h"

namespace evenkeel::agent {

// Local slot s of the tensor begins at offset + s * stride and has `bytes` bytes.
struct TensorPlace {
  uint64_t offset = 0;
  uint64_t stride = 0;
  uint64_t bytes = 0;

  friend bool operator==(const TensorPlace&, const TensorPlace&) = default;
};

struct WeightsTable {
  int slots_per_rank = 0;
  std::vector<std::vector<TensorPlace>> layers;  // tensors in manifest order

  friend bool operator==(const WeightsTable&, const WeightsTable&) = default;
};

WeightsTable TableOf(const engine::AgentRegion& region);

// The whole segment that the table's offsets count from.
std::span<std::byte> SegmentOf(const engine::AgentRegion& region);

}  // namespace evenkeel::agent
