// SPDX-License-Identifier: Apache-2.0
//
// Counts on the GPU: tokens per slot folded to experts, and tokens that an engine has counted itself.
//
// Counters are device memory, 64 bits, only growing; kernels add to them atomically, so several streams may.
//
// Errors:    launchers return cudaError_t as int; cudaErrorInvalidValue for sizes that make no sense.
#pragma once

#include <cstdint>

namespace evenkeel::kernels {

// per_expert[expert_of_slot[s]] += per_slot[s] for every slot; slots of -1 are left out. All device memory.
int LaunchFoldCounts(const uint64_t* per_slot, const int32_t* expert_of_slot, int32_t num_slots, uint64_t* per_expert,
                     int32_t num_experts, void* stream);

// What an engine has after dispatch: tokens of each of its local experts.
struct EngineCounts {
  const void* values;   // device memory, [num_local]
  int32_t value_bytes;  // 4 (int32_t) or 8 (int64_t)
  int32_t num_local;
  bool cumulative;  // values[i] is the sum up to and with i
};

// counters[i] += the count of local expert i; negative counts add nothing.
int LaunchAddCounts(const EngineCounts& counts, uint64_t* counters, void* stream);
// The same to the counters that `offset` counters behind the address *counters_at begin; nothing where that is 0.
int LaunchAddCountsAt(const EngineCounts& counts, const uint64_t* counters_at, uint64_t offset, void* stream);

}  // namespace evenkeel::kernels
