// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include "kernels/counts_cuda.h"

namespace evenkeel::kernels {

namespace {

constexpr int kThreads = 256;

unsigned BlocksFor(int32_t count) { return static_cast<unsigned>((count + kThreads - 1) / kThreads); }

__device__ void AddTo(uint64_t* counter, uint64_t value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(counter), static_cast<unsigned long long>(value));
}

__global__ void FoldCounts(const uint64_t* per_slot, const int32_t* expert_of_slot, int32_t num_slots,
                           uint64_t* per_expert, int32_t num_experts) {
  const auto slot = static_cast<int32_t>(blockIdx.x * kThreads + threadIdx.x);
  if (slot >= num_slots) return;
  const int32_t expert = expert_of_slot[slot];
  if (expert >= 0 && expert < num_experts && per_slot[slot] != 0) AddTo(&per_expert[expert], per_slot[slot]);
}

template <typename Value>
__global__ void AddCounts(const Value* values, int32_t num_local, bool cumulative, uint64_t* counters,
                          const uint64_t* counters_at, uint64_t offset) {
  const auto i = static_cast<int32_t>(blockIdx.x * kThreads + threadIdx.x);
  if (i >= num_local) return;
  if (counters_at != nullptr) {
    if (*counters_at == 0) return;
    counters = reinterpret_cast<uint64_t*>(*counters_at) + offset;
  }
  const Value before = cumulative && i > 0 ? values[i - 1] : 0;
  const Value count = values[i] - before;
  if (count > 0) AddTo(&counters[i], static_cast<uint64_t>(count));
}

int LaunchAdd(const EngineCounts& counts, uint64_t* counters, const uint64_t* counters_at, uint64_t offset,
              void* stream) {
  if (counts.num_local < 0 || (counts.value_bytes != 4 && counts.value_bytes != 8)) return cudaErrorInvalidValue;
  if (counts.num_local == 0) return cudaSuccess;
  const auto on = static_cast<cudaStream_t>(stream);
  const unsigned blocks = BlocksFor(counts.num_local);
  if (counts.value_bytes == 4) {
    AddCounts<<<blocks, kThreads, 0, on>>>(static_cast<const int32_t*>(counts.values), counts.num_local,
                                           counts.cumulative, counters, counters_at, offset);
  } else {
    AddCounts<<<blocks, kThreads, 0, on>>>(static_cast<const int64_t*>(counts.values), counts.num_local,
                                           counts.cumulative, counters, counters_at, offset);
  }
  return cudaGetLastError();
}

}  // namespace

int LaunchFoldCounts(const uint64_t* per_slot, const int32_t* expert_of_slot, int32_t num_slots, uint64_t* per_expert,
                     int32_t num_experts, void* stream) {
  if (num_slots < 0 || num_experts < 0) return cudaErrorInvalidValue;
  if (num_slots == 0) return cudaSuccess;
  FoldCounts<<<BlocksFor(num_slots), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      per_slot, expert_of_slot, num_slots, per_expert, num_experts);
  return cudaGetLastError();
}

int LaunchAddCounts(const EngineCounts& counts, uint64_t* counters, void* stream) {
  return LaunchAdd(counts, counters, nullptr, 0, stream);
}

int LaunchAddCountsAt(const EngineCounts& counts, const uint64_t* counters_at, uint64_t offset, void* stream) {
  return LaunchAdd(counts, nullptr, counters_at, offset, stream);
}

}  // namespace evenkeel::kernels
