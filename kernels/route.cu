// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include "kernels/route_cuda.h"

namespace evenkeel::kernels {

namespace {

// Large blocks, one a processor: each reads the table and adds its counts once.
constexpr int kThreads = 1024;

// A layer's table as a block reads it: in shared memory, or where it is.
struct Table {
  const int32_t* offsets;
  const int32_t* slots;
  const uint32_t* bounds;
  int32_t num_experts;
  bool masked;                 // some replicas may have to be passed over
  const uint8_t* passed_over;  // by entry of slots; null: to be looked up
};

__device__ uint64_t TableView(const RouteLaunch& launch) {
  return launch.table_view != nullptr ? *launch.table_view : launch.mask.table_view;
}

// Some ranks may have to be passed over. kAt: mask_change and routed_at may be given; apart, because looking for them
// costs 0.2 to 0.5 us.
template <bool kAt>
__device__ bool IsMasked(const RouteLaunch& launch) {
  if (launch.mask.lost == nullptr) return false;
  return !kAt || launch.mask_change == nullptr || *launch.mask_change > TableView(launch);
}

// Asked for where it is needed: kept, it would cost registers.
template <bool kAt>
__device__ uint64_t* RoutedOf(const RouteLaunch& launch) {
  if (!kAt || launch.routed_at == nullptr) return launch.counters.routed;
  auto* routed = reinterpret_cast<uint64_t*>(*launch.routed_at);
  return routed == nullptr ? nullptr : routed + launch.routed_offset;
}

__device__ bool IsPassedOver(const RouteLaunch& launch, int32_t slot) {
  const int32_t rank = slot / launch.mask.slots_per_rank;
  return launch.mask.lost[rank] != 0 || launch.mask.joined[rank] > TableView(launch);
}

__device__ int32_t SlotAt(const Table& table, int32_t first, int32_t end, uint32_t position) {
  while (first < end - 1 && position > table.bounds[first]) ++first;
  return table.slots[first];
}

__device__ uint64_t UnitsOf(const Table& table, int32_t first, int32_t end, int32_t i) {
  const uint64_t begin = i == first ? 0 : uint64_t{table.bounds[i - 1]} + 1;
  return (i == end - 1 ? uint64_t{1} << 32 : uint64_t{table.bounds[i]} + 1) - begin;
}

// Among the replicas that are not passed over, whose shares grow in proportion.
__device__ int32_t LiveSlotAt(const RouteLaunch& launch, const Table& table, int32_t first, int32_t end,
                              uint32_t position) {
  const auto passed_over = [&](int32_t i) {
    return table.passed_over != nullptr ? table.passed_over[i] != 0 : IsPassedOver(launch, table.slots[i]);
  };
  uint64_t live_units = 0;
  for (int32_t i = first; i < end; ++i) {
    if (!passed_over(i)) live_units += UnitsOf(table, first, end, i);
  }
  uint64_t rest = (uint64_t{position} * live_units) >> 32;
  int32_t slot = -1;
  for (int32_t i = first; i < end; ++i) {
    // Asked again: a rank may be lost in between; the last live one is then taken.
    if (passed_over(i)) continue;
    slot = table.slots[i];
    const uint64_t units = UnitsOf(table, first, end, i);
    if (rest < units) break;
    rest -= units;
  }
  return slot;
}

template <RouteMode kMode>
__device__ int32_t SlotOf(const RouteLaunch& launch, const Table& table, int32_t expert, uint64_t copy_idx,
                          uint64_t salt) {
  const int32_t first = table.offsets[expert], end = table.offsets[expert + 1];
  if (end <= first) return -1;
  const auto count = static_cast<uint64_t>(end - first);
  if constexpr (kMode == RouteMode::kFlatPosition) return table.slots[first + (copy_idx + launch.rank) % count];
  if constexpr (kMode == RouteMode::kTokenHash) {
    const uint64_t token = copy_idx / static_cast<uint32_t>(launch.batch.top_k);
    return table.slots[first + static_cast<uint32_t>(token * 2654435769u) % static_cast<uint32_t>(count)];
  }
  if (table.masked) {
    return LiveSlotAt(launch, table, first, end, RoutePosition(salt, static_cast<uint32_t>(expert), copy_idx));
  }
  if (count == 1) return table.slots[first];
  return SlotAt(table, first, end, RoutePosition(salt, static_cast<uint32_t>(expert), copy_idx));
}

__device__ void AddTo(uint64_t* counter, uint64_t value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(counter), static_cast<unsigned long long>(value));
}

// Four or two ids at a time where rows are dense and aligned.
template <typename Id>
struct Vector;
template <>
struct Vector<int32_t> {
  using Type = int4;
};
template <>
struct Vector<int64_t> {
  using Type = longlong2;
};

// A block's share of the work, on a table and a histogram of its own or the whole grid's.
template <typename Id, typename Slot, RouteMode kMode, bool kAt>
struct Router {
  using Ids = typename Vector<Id>::Type;
  static constexpr int kIds = sizeof(Ids) / sizeof(Id);

  const RouteLaunch& launch;
  const Table& table;
  uint32_t* histogram;  // shared, or null: count where counters are
  uint64_t salt;

  // -1 where the copy goes nowhere.
  __device__ int32_t SlotFor(Id id, uint64_t flat) const {
    if (id < 0 || id >= table.num_experts) return -1;
    const uint64_t copy_idx = static_cast<uint64_t>(launch.batch.first_token) * launch.batch.top_k + flat;
    return SlotOf<kMode>(launch, table, static_cast<int32_t>(id), copy_idx, salt);
  }

  // Apart from SlotFor, so that the copies of a vector are looked up side by side.
  __device__ void Count(Id id, int32_t slot) const {
    if (slot >= 0) {
      if (!kAt && launch.counters.routed == nullptr) return;
      const int32_t at = launch.count == RouteCount::kSlots ? slot : static_cast<int32_t>(id);
      if (histogram != nullptr) {
        atomicAdd(&histogram[at], 1u);
      } else if (uint64_t* routed = RoutedOf<kAt>(launch); !kAt || routed != nullptr) {
        AddTo(&routed[at], 1);
      }
    } else if (id >= table.num_experts) {
      if (launch.num_unknown != nullptr) AddTo(launch.num_unknown, 1);
    } else if (id >= 0 && launch.counters.unrouted != nullptr) {
      AddTo(&launch.counters.unrouted[id], 1);
    }
  }

  __device__ Slot RouteOne(Id id, uint64_t flat) const {
    const int32_t slot = SlotFor(id, flat);
    Count(id, slot);
    return slot;
  }

  // `read`: the first vector of this thread, if it has one.
  __device__ void RouteDense(Ids read, uint64_t num_vectors, uint64_t num_copies, uint64_t thread,
                             uint64_t num_threads) const {
    const auto* ids = static_cast<const Id*>(launch.batch.ids);
    auto* slots = static_cast<Slot*>(launch.slots);
    for (uint64_t v = thread; v < num_vectors; v += num_threads) {
      if (v != thread) read = reinterpret_cast<const Ids*>(ids)[v];
      const Id* one = reinterpret_cast<const Id*>(&read);
      struct alignas(sizeof(Slot) * kIds) Written {
        Slot slot[kIds];
      } written;
#pragma unroll
      for (int i = 0; i < kIds; ++i) written.slot[i] = SlotFor(one[i], v * kIds + i);
#pragma unroll
      for (int i = 0; i < kIds; ++i) Count(one[i], static_cast<int32_t>(written.slot[i]));
      reinterpret_cast<Written*>(slots)[v] = written;
    }
    for (uint64_t flat = num_vectors * kIds + thread; flat < num_copies; flat += num_threads) {
      slots[flat] = RouteOne(ids[flat], flat);
    }
  }

  __device__ void RouteStrided(uint64_t num_copies, uint64_t thread, uint64_t num_threads) const {
    const auto* ids = static_cast<const Id*>(launch.batch.ids);
    const auto top_k = static_cast<uint64_t>(launch.batch.top_k);
    for (uint64_t flat = thread; flat < num_copies; flat += num_threads) {
      const uint64_t token = flat / top_k;
      const Id id = ids[token * static_cast<uint64_t>(launch.batch.row_stride) + (flat - token * top_k)];
      static_cast<Slot*>(launch.slots)[flat] = RouteOne(id, flat);
    }
  }
};

// Shared memory: offsets, slots, bounds, histogram, passed_over.
template <typename Id, typename Slot, RouteMode kMode, bool kShared, bool kAt>
__global__ void __launch_bounds__(kThreads) RouteAndCount(RouteLaunch launch) {
  using Ids = typename Vector<Id>::Type;
  constexpr int kIds = sizeof(Ids) / sizeof(Id);
  extern __shared__ int32_t shared[];
  // Read first, so that ids and table come at the same time.
  const uint64_t num_copies = static_cast<uint64_t>(launch.batch.num_tokens) * launch.batch.top_k;
  const uint64_t thread = uint64_t{blockIdx.x} * kThreads + threadIdx.x;
  const uint64_t num_threads = uint64_t{gridDim.x} * kThreads;
  const bool dense = launch.batch.row_stride == launch.batch.top_k;
  const bool aligned = reinterpret_cast<uintptr_t>(launch.batch.ids) % sizeof(Ids) == 0 &&
                       reinterpret_cast<uintptr_t>(launch.slots) % (sizeof(Slot) * kIds) == 0;
  // With a thread for every copy, vectors would only leave processors idle.
  const uint64_t num_vectors = dense && aligned && num_copies > num_threads ? num_copies / kIds : 0;
  Ids first_ids{};
  if (thread < num_vectors) first_ids = static_cast<const Ids*>(launch.batch.ids)[thread];
  const uint64_t step = launch.step != nullptr ? *launch.step : 0;
  const int32_t num_experts = launch.table.num_experts;
  const int32_t num_counters = launch.count == RouteCount::kSlots ? launch.num_slots : num_experts;
  const bool masked = kMode == RouteMode::kShares && IsMasked<kAt>(launch);
  Table table{launch.table.offsets, launch.table.slots, launch.table.bounds, num_experts, masked, nullptr};
  uint32_t* histogram = nullptr;
  if constexpr (kShared) {
    int32_t* offsets = shared;
    int32_t* slots = offsets + num_experts + 1;
    auto* bounds = reinterpret_cast<uint32_t*>(slots + launch.num_slots);
    histogram = bounds + launch.num_slots;
    auto* passed_over = reinterpret_cast<uint8_t*>(histogram + num_counters);
    bool any = false;
    for (int32_t i = threadIdx.x; i <= num_experts; i += kThreads) offsets[i] = launch.table.offsets[i];
    // Entries that no expert uses are read too: waiting for their number would cost more.
    for (int32_t i = threadIdx.x; i < launch.num_slots; i += kThreads) {
      slots[i] = launch.table.slots[i];
      bounds[i] = launch.table.bounds[i];
    }
    for (int32_t i = threadIdx.x; i < num_counters; i += kThreads) histogram[i] = 0;
    if (masked) {
      __syncthreads();
      for (int32_t i = threadIdx.x; i < offsets[num_experts]; i += kThreads) {
        passed_over[i] = IsPassedOver(launch, slots[i]) ? 1 : 0;
        any = any || passed_over[i] != 0;
      }
    }
    any = __syncthreads_or(any) != 0;
    table = {offsets, slots, bounds, num_experts, any, passed_over};
  }
  const bool counts = launch.counters.routed != nullptr || (kAt && launch.routed_at != nullptr);
  const Router<Id, Slot, kMode, kAt> router{launch, table, counts ? histogram : nullptr,
                                            RouteSalt(launch.rank, launch.layer, step)};
  if (dense) {
    router.RouteDense(first_ids, num_vectors, num_copies, thread, num_threads);
  } else {
    router.RouteStrided(num_copies, thread, num_threads);
  }
  if constexpr (kShared) {
    if (!counts) return;
    uint64_t* const routed = RoutedOf<kAt>(launch);
    if (kAt && routed == nullptr) return;
    __syncthreads();
    for (int32_t i = threadIdx.x; i < num_counters; i += kThreads) {
      if (histogram[i] != 0) AddTo(&routed[i], histogram[i]);
    }
  }
}

template <typename Id, typename Slot, RouteMode kMode, bool kAt = false>
cudaError_t LaunchAs(const RouteLaunch& launch, int num_processors, cudaStream_t stream) {
  const size_t num_experts = static_cast<size_t>(launch.table.num_experts);
  const size_t num_slots = static_cast<size_t>(launch.num_slots);
  const size_t num_counters = launch.count == RouteCount::kSlots ? num_slots : num_experts;
  const size_t bytes = (num_experts + 1 + 2 * num_slots + num_counters) * 4 + num_slots;
  const uint64_t num_copies = static_cast<uint64_t>(launch.batch.num_tokens) * launch.batch.top_k;
  constexpr uint64_t kPerVector = sizeof(typename Vector<Id>::Type) / sizeof(Id);
  const auto most = static_cast<uint64_t>(num_processors);
  uint64_t wanted = (num_copies + kThreads - 1) / kThreads;
  if (wanted > most) wanted = (num_copies / kPerVector + kThreads - 1) / kThreads;
  const auto blocks = static_cast<unsigned>(wanted < most ? wanted : most);
  if (bytes <= kSharedTableMax) {
    RouteAndCount<Id, Slot, kMode, true, kAt><<<blocks, kThreads, bytes, stream>>>(launch);
  } else {
    RouteAndCount<Id, Slot, kMode, false, kAt><<<blocks, kThreads, 0, stream>>>(launch);
  }
  return cudaGetLastError();
}

template <typename Id, typename Slot>
cudaError_t LaunchIn(const RouteLaunch& launch, int num_processors, cudaStream_t stream) {
  if (launch.routed_at != nullptr || launch.mask_change != nullptr) {
    if (launch.mode != RouteMode::kShares) return cudaErrorInvalidValue;
    return LaunchAs<Id, Slot, RouteMode::kShares, true>(launch, num_processors, stream);
  }
  switch (launch.mode) {
    case RouteMode::kShares:
      return LaunchAs<Id, Slot, RouteMode::kShares>(launch, num_processors, stream);
    case RouteMode::kFlatPosition:
      return LaunchAs<Id, Slot, RouteMode::kFlatPosition>(launch, num_processors, stream);
    case RouteMode::kTokenHash:
      return LaunchAs<Id, Slot, RouteMode::kTokenHash>(launch, num_processors, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

int LaunchRouteAndCount(const RouteLaunch& launch, void* stream) {
  const RouteBatch& batch = launch.batch;
  const int32_t slot_bytes = launch.slot_bytes == 0 ? batch.id_bytes : launch.slot_bytes;
  if (batch.num_tokens < 0 || batch.top_k <= 0 || batch.row_stride < batch.top_k || launch.num_slots <= 0 ||
      launch.table.num_experts <= 0 || launch.mask.slots_per_rank <= 0 ||
      (batch.id_bytes != 4 && batch.id_bytes != 8) || (slot_bytes != 4 && slot_bytes != 8)) {
    return cudaErrorInvalidValue;
  }
  if (batch.num_tokens == 0) return cudaSuccess;
  int device = 0, num_processors = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&num_processors, cudaDevAttrMultiProcessorCount, device);
  }
  if (error != cudaSuccess) return error;
  const auto on = static_cast<cudaStream_t>(stream);
  if (batch.id_bytes == 4 && slot_bytes == 4) return LaunchIn<int32_t, int32_t>(launch, num_processors, on);
  if (batch.id_bytes == 4) return LaunchIn<int32_t, int64_t>(launch, num_processors, on);
  if (slot_bytes == 4) return LaunchIn<int64_t, int32_t>(launch, num_processors, on);
  return LaunchIn<int64_t, int64_t>(launch, num_processors, on);
}

}  // namespace evenkeel::kernels
