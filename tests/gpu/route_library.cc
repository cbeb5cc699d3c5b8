// SPDX-License-Identifier: Apache-2.0
//
// route_and_count for Python's ctypes: what route_vs_torch.py loads.
#include "kernels/route_cuda.h"

extern "C" __attribute__((visibility("default"))) int evenkeel_route_and_count(
    const int32_t* offsets, const int32_t* table_slots, const uint32_t* bounds, int32_t num_experts, int32_t num_slots,
    const void* ids, int32_t id_bytes, int32_t top_k, int64_t num_tokens, uint64_t* routed, void* slots, void* stream) {
  evenkeel::kernels::RouteLaunch launch;
  launch.table = {offsets, table_slots, bounds, num_experts};
  launch.batch = {ids, id_bytes, top_k, num_tokens, top_k, 0};
  launch.counters = {routed, nullptr};
  launch.num_slots = num_slots;
  launch.slots = slots;
  return evenkeel::kernels::LaunchRouteAndCount(launch, stream);
}
