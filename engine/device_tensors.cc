// SPDX-License-Identifier: Apache-2.0
#include "engine/device_tensors.h"

#include <cinttypes>
#include <cstring>
#include <memory>
#include <vector>

#include "engine/region/device_slots.h"
#include "kernels/cuda_memory.h"

namespace evenkeel::engine {

Error PlaceOnDevice(const RegionView& view, bool is_first, const void* data, uint64_t bytes, TensorRecord& tensor) {
  kernels::ExportedMemory memory;
  if (const auto failure = kernels::ExportCudaMemory(data, &memory); !failure.ok()) {
    return MakeError(ErrorCode::kInvalidArgument, "not within memory from evenkeel_alloc_weights; %s", failure.text);
  }
  RegionHeader& header = view.header();
  if (!is_first && header.on_device == 0) {
    return MakeError(ErrorCode::kInvalidArgument, "it is in device memory, tensors before it are in host memory");
  }
  if (!is_first && std::memcmp(header.device_uuid, memory.device.bytes, sizeof(header.device_uuid)) != 0) {
    return MakeError(ErrorCode::kInvalidArgument, "it is on another GPU than the tensors before it");
  }
  const uint64_t offset = reinterpret_cast<uintptr_t>(data) - memory.base;
  if (offset > memory.bytes || bytes > memory.bytes - offset) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "its slots take %" PRIu64 " bytes, its allocation has %" PRIu64 " from there on", bytes,
                     memory.bytes - offset);
  }
  if (is_first) {
    header.on_device = 1;
    std::memcpy(header.device_uuid, memory.device.bytes, sizeof(header.device_uuid));
  }
  tensor.offset = offset;
  tensor.allocation_base = memory.base;
  tensor.allocation_bytes = memory.bytes;
  std::memcpy(tensor.ipc_handle, memory.handle.bytes, sizeof(tensor.ipc_handle));
  return {};
}

Error FingerprintLayers(const RegionView& view, uint64_t* fingerprints) {
  std::unique_ptr<kernels::CudaDevice> device;
  if (view.on_device()) {
    const auto failure = kernels::CudaDevice::Open(DeviceOf(view), &device);
    if (!failure.ok()) return MakeError(ErrorCode::kFailedPrecondition, "%s", failure.text);
  }
  std::vector<LocalSlotAt> slots;
  for (int layer = 0; layer < view.sizes().num_layers; ++layer) {
    for (int local = 0; local < view.sizes().slots_per_rank; ++local) slots.push_back({layer, local});
  }
  return FingerprintSlots(view, device.get(), slots, fingerprints);
}

}  // namespace evenkeel::engine
