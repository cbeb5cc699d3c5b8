// SPDX-License-Identifier: Apache-2.0
#include <cuda.h>
#include <cuda_runtime.h>

#include <cstring>

#include "kernels/counts_cuda.h"
#include "kernels/cuda_failure.h"
#include "kernels/cuda_steps.h"
#include "kernels/route_cuda.h"

namespace evenkeel::kernels {

namespace {

constexpr uint64_t kAlignment = 256;

uint64_t Aligned(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Of a lane, what a step's begin stores.
struct StepWords {
  uint64_t step;
  uint64_t table_view;
  uint64_t routed;  // address of the phase's counters; 0: nothing is counted
};

// From the beginning of the memory: the mask, then each lane's words, tables, counters, unrouted.
struct Places {
  explicit Places(const CudaSteps::Sizes& sizes)
      : lost(Aligned(sizeof(uint64_t))),
        joined(lost + Aligned(static_cast<uint64_t>(sizes.num_ranks) * sizeof(uint32_t))),
        lanes(joined + Aligned(static_cast<uint64_t>(sizes.num_ranks) * sizeof(uint64_t))),
        tables(Aligned(sizeof(StepWords))),
        counters(tables + Aligned(sizes.tables_bytes)),
        unrouted(counters + static_cast<uint64_t>(sizes.num_phases) * Aligned(sizes.counters_bytes)),
        lane_bytes(unrouted + Aligned(sizes.unrouted_bytes)),
        total(lanes + static_cast<uint64_t>(sizes.num_lanes) * lane_bytes) {}

  uint64_t change = 0;
  uint64_t lost, joined, lanes;
  uint64_t tables, counters, unrouted, lane_bytes;  // within a lane
  uint64_t total;
};

// The engine's thread goes on with the GPU that it had.
class OnDevice {
 public:
  explicit OnDevice(int ordinal) {
    failure_ = Check("use the engine's GPU", cudaGetDevice(&before_));
    if (failure_.ok() && before_ != ordinal) failure_ = Check("use the engine's GPU", cudaSetDevice(ordinal));
    changed_ = failure_.ok() && before_ != ordinal;
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  ~OnDevice() {
    if (changed_) cudaSetDevice(before_);
  }

  const CudaFailure& failure() const { return failure_; }

 private:
  int before_ = 0;
  bool changed_ = false;
  CudaFailure failure_;
};

using StreamBatchMemOp = CUresult (*)(CUstream, unsigned, CUstreamBatchMemOpParams*, unsigned);

StreamBatchMemOp BatchMemOp() {
  static const auto function = DriverFunction<StreamBatchMemOp>("cuStreamBatchMemOp");
  return function;
}

// 64-bit stores in the order of a stream, each behind all that was enqueued before.
class Stores {
 public:
  void Add(uint64_t address, uint64_t value) {
    CUstreamBatchMemOpParams& op = ops_[count_++];
    op = {};
    op.writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_64;
    op.writeValue.address = address;
    op.writeValue.value64 = value;
    op.writeValue.flags = CU_STREAM_WRITE_VALUE_DEFAULT;
  }
  CudaFailure Enqueue(void* stream) {
    const CUresult code = BatchMemOp()(static_cast<CUstream>(stream), count_, ops_, 0);
    if (code == CUDA_SUCCESS) return {};
    char text[64];
    std::snprintf(text, sizeof(text), "the driver answers %d", static_cast<int>(code));
    return Fail("store in the order of a stream", text);
  }

 private:
  static constexpr unsigned kMax = 4;
  CUstreamBatchMemOpParams ops_[kMax];
  unsigned count_ = 0;
};

CudaFailure CopyOn(void* stream, void* to, const void* from, uint64_t bytes) {
  return Check("copy in the order of a stream",
               cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, static_cast<cudaStream_t>(stream)));
}

}  // namespace

uint64_t CudaSteps::bytes_of(const Sizes& sizes) { return Places(sizes).total; }

CudaFailure CudaSteps::Open(int ordinal, const Sizes& sizes, void* host, uint64_t host_bytes, const MaskAt& mask,
                            CudaUuid* uuid, std::unique_ptr<CudaSteps>* steps) {
  constexpr char kWhat[] = "open the engine's GPU";
  int count = 0;
  CudaFailure failure = Check(kWhat, cudaGetDeviceCount(&count));
  if (!failure.ok()) return failure;
  if (ordinal < 0 || ordinal >= count) return Fail(kWhat, "there is none of that number");
  const OnDevice on(ordinal);
  if (!on.failure().ok()) return on.failure();
  cudaDeviceProp properties;
  if (!(failure = Check(kWhat, cudaGetDeviceProperties(&properties, ordinal))).ok()) return failure;
  std::memcpy(uuid->bytes, &properties.uuid, sizeof(uuid->bytes));
  if (!(failure = Check(kWhat, cudaFree(nullptr))).ok()) return failure;  // the context, where this is its first use
  using GetAttribute = CUresult (*)(int*, CUdevice_attribute, CUdevice);
  const auto get_attribute = DriverFunction<GetAttribute>("cuDeviceGetAttribute");
  int can_store = 0;
  if (get_attribute == nullptr || BatchMemOp() == nullptr ||
      get_attribute(&can_store, CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS, ordinal) != CUDA_SUCCESS ||
      can_store == 0) {
    return Fail(kWhat, "it cannot store 64 bits in the order of a stream");
  }
  std::unique_ptr<CudaSteps> made(new CudaSteps);
  made->ordinal_ = ordinal;
  made->sizes_ = sizes;
  made->mask_ = mask;
  failure = Check("lock the region's pages, which must be shared memory as in /dev/shm",
                  cudaHostRegister(host, host_bytes, cudaHostRegisterMapped));
  if (!failure.ok()) return failure;
  made->host_ = host;
  void* seen = nullptr;
  if (!(failure = Check(kWhat, cudaHostGetDevicePointer(&seen, host, 0))).ok()) return failure;
  made->host_to_device_ = reinterpret_cast<intptr_t>(seen) - reinterpret_cast<intptr_t>(host);
  int lowest = 0, highest = 0;
  if (!(failure = Check(kWhat, cudaDeviceGetStreamPriorityRange(&lowest, &highest))).ok()) return failure;
  cudaStream_t beside = nullptr;
  failure = Check(kWhat, cudaStreamCreateWithPriority(&beside, cudaStreamNonBlocking, highest));
  if (!failure.ok()) return failure;
  made->beside_ = beside;
  const uint64_t total = bytes_of(sizes);
  if (!(failure = Check("take memory of the GPU", cudaMalloc(&made->memory_, total))).ok()) return failure;
  if (!(failure = Check(kWhat, cudaMemsetAsync(made->memory_, 0, total, beside))).ok()) return failure;
  if (!(failure = Check(kWhat, cudaStreamSynchronize(beside))).ok()) return failure;
  *steps = std::move(made);
  return {};
}

CudaSteps::~CudaSteps() {
  const OnDevice on(ordinal_);
  if (memory_ != nullptr) cudaFree(memory_);  // waits for what uses it
  if (beside_ != nullptr) cudaStreamDestroy(static_cast<cudaStream_t>(beside_));
  if (host_ != nullptr) cudaHostUnregister(host_);
}

// Within memory_: of the lane and phase.
uint64_t CudaSteps::RowAt(int lane, int phase) const {
  const Places places(sizes_);
  return places.lanes + static_cast<uint64_t>(lane) * places.lane_bytes + places.counters +
         static_cast<uint64_t>(phase) * Aligned(sizes_.counters_bytes);
}

CudaFailure CudaSteps::BeginStep(int lane, const Begin& begin, void* stream) {
  const OnDevice on(ordinal_);
  if (!on.failure().ok()) return on.failure();
  const Places places(sizes_);
  unsigned char* const at = memory_ + places.lanes + static_cast<uint64_t>(lane) * places.lane_bytes;
  const auto words = reinterpret_cast<uint64_t>(at);
  if (begin.takes_mask) {
    CudaFailure failure = CopyMask(stream);
    if (!failure.ok()) return failure;
  }
  Stores stores;
  if (begin.tables != nullptr) {
    CudaFailure failure = CopyOn(stream, at + places.tables, begin.tables, sizes_.tables_bytes);
    if (!failure.ok()) return failure;
    stores.Add(static_cast<uint64_t>(reinterpret_cast<intptr_t>(begin.copied) + host_to_device_), begin.copy);
  }
  const uint64_t row = begin.phase < 0 ? 0 : reinterpret_cast<uint64_t>(memory_) + RowAt(lane, begin.phase);
  stores.Add(words + offsetof(StepWords, step), begin.step);
  stores.Add(words + offsetof(StepWords, table_view), begin.table_view);
  stores.Add(words + offsetof(StepWords, routed), row);
  return stores.Enqueue(stream);
}

CudaFailure CudaSteps::EndStep(int lane, const End& end, void* stream) {
  const OnDevice on(ordinal_);
  CudaFailure failure = on.failure();
  const Places places(sizes_);
  const unsigned char* const at = memory_ + places.lanes + static_cast<uint64_t>(lane) * places.lane_bytes;
  if (failure.ok() && end.counters != nullptr) {
    failure = CopyOn(stream, end.counters, memory_ + RowAt(lane, end.phase), sizes_.counters_bytes);
  }
  if (failure.ok() && end.unrouted != nullptr) {
    failure = CopyOn(stream, end.unrouted, at + places.unrouted, sizes_.unrouted_bytes);
  }
  if (!failure.ok()) return failure;
  Stores stores;
  stores.Add(static_cast<uint64_t>(reinterpret_cast<intptr_t>(end.done) + host_to_device_), end.ticket);
  return stores.Enqueue(stream);
}

// The null stream is the default one.
CudaFailure CudaSteps::CopyMask(void* stream) {
  const Places places(sizes_);
  const auto ranks = static_cast<uint64_t>(sizes_.num_ranks);
  CudaFailure failure = CopyOn(stream, memory_ + places.lost, mask_.lost, ranks * sizeof(uint32_t));
  if (failure.ok()) failure = CopyOn(stream, memory_ + places.joined, mask_.joined, ranks * sizeof(uint64_t));
  if (failure.ok()) failure = CopyOn(stream, memory_ + places.change, mask_.change, sizeof(uint64_t));
  return failure;
}

CudaFailure CudaSteps::PushMask() {
  const OnDevice on(ordinal_);
  if (!on.failure().ok()) return on.failure();
  return CopyMask(beside_);
}

CudaFailure CudaSteps::AddCounts(int lane, int layer, const LocalCounts& counts, void* stream) {
  const OnDevice on(ordinal_);
  if (!on.failure().ok()) return on.failure();
  const Places places(sizes_);
  const auto* words =
      reinterpret_cast<const StepWords*>(memory_ + places.lanes + static_cast<uint64_t>(lane) * places.lane_bytes);
  const uint64_t offset = static_cast<uint64_t>(layer) * static_cast<uint64_t>(sizes_.slots_per_rank);
  return Check("count on the GPU", static_cast<cudaError_t>(LaunchAddCountsAt(
                                       {counts.values, counts.value_bytes, sizes_.slots_per_rank, counts.cumulative},
                                       &words->routed, offset, stream)));
}

CudaFailure CudaSteps::Route(int lane, int layer, const RouteBatch& batch, int32_t* slots, void* stream) {
  const OnDevice on(ordinal_);
  if (!on.failure().ok()) return on.failure();
  const Places places(sizes_);
  unsigned char* const at = memory_ + places.lanes + static_cast<uint64_t>(lane) * places.lane_bytes;
  const auto layer_idx = static_cast<uint64_t>(layer);
  const auto num_slots = static_cast<uint64_t>(sizes_.num_slots);
  const auto* offsets = reinterpret_cast<const int32_t*>(at + places.tables + layer_idx * sizes_.table_stride);
  const int32_t* table_slots = offsets + sizes_.num_experts + 1;
  const auto* words = reinterpret_cast<const StepWords*>(at);
  RouteLaunch launch = {};
  launch.table = {offsets, table_slots, reinterpret_cast<const uint32_t*>(table_slots + num_slots), sizes_.num_experts};
  launch.batch = batch;
  launch.mask.lost = reinterpret_cast<const volatile uint32_t*>(memory_ + places.lost);
  launch.mask.joined = reinterpret_cast<const volatile uint64_t*>(memory_ + places.joined);
  launch.mask.slots_per_rank = sizes_.slots_per_rank;
  launch.mask_change = reinterpret_cast<const uint64_t*>(memory_ + places.change);
  launch.table_view = &words->table_view;
  launch.step = &words->step;
  launch.counters.unrouted =
      reinterpret_cast<uint64_t*>(at + places.unrouted) + layer_idx * static_cast<uint64_t>(sizes_.num_experts);
  if (sizes_.counts_routed) {
    launch.routed_at = &words->routed;
    launch.routed_offset = layer_idx * num_slots;
  }
  launch.rank = sizes_.rank;
  launch.layer = static_cast<uint32_t>(layer);
  launch.num_slots = sizes_.num_slots;
  launch.slots = slots;
  launch.slot_bytes = sizeof(int32_t);
  return Check("route on the GPU", static_cast<cudaError_t>(LaunchRouteAndCount(launch, stream)));
}

}  // namespace evenkeel::kernels
