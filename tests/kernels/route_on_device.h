// SPDX-License-Identifier: Apache-2.0
//
// RouteOnDevice: route_and_count on a GPU for tests, without CUDA headers.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/route_cuda.h"

namespace evenkeel::kernels {

// What changes between replays of one captured graph.
struct RouteMoment {
  std::vector<int32_t> offsets;  // [num_experts + 1]
  std::vector<int32_t> slots;
  std::vector<uint32_t> bounds;
  std::vector<uint32_t> lost;    // [num_ranks], or empty at every moment: no mask
  std::vector<uint64_t> joined;  // as lost
  uint64_t view = 0;
  uint64_t step = 0;
};

struct RouteCase {
  int32_t num_experts = 0;
  int32_t num_slots = 0;
  int32_t slots_per_rank = 1;
  std::vector<int64_t> ids;  // [num_tokens, row_stride]
  int32_t id_bytes = 4;
  int32_t top_k = 1;
  int64_t num_tokens = 0;
  int64_t row_stride = 1;
  int64_t first_token = 0;
  uint32_t rank = 0, layer = 0;
  RouteMode mode = RouteMode::kShares;
  RouteCount count = RouteCount::kSlots;
  int32_t slot_bytes = 0;
  int32_t misalignment = 0;  // ids begin so many elements off an aligned address
};

struct RouteOutcome {
  int error = 0;               // a cudaError_t
  std::vector<int64_t> slots;  // [num_tokens, top_k]
  std::vector<uint64_t> routed, unrouted;
  uint64_t num_unknown = 0;
};

// Captures one launch in a graph and replays it at each moment; counters go on from one to the next.
std::vector<RouteOutcome> RouteOnDevice(const RouteCase& route_case, const std::vector<RouteMoment>& moments);

}  // namespace evenkeel::kernels
