// SPDX-License-Identifier: Apache-2.0
//
// DeviceSlots: a region's tensors where they lie in device memory: mapped from another process, and fingerprinted.
//
// Threads:   as kernels/cuda_memory.h says of the device.
// Errors:    kFailedPrecondition: what the GPU, or a build without CUDA, said.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/region/error.h"
#include "engine/region/region_view.h"
#include "kernels/cuda_memory.h"

namespace evenkeel::engine {

// Another process's allocations, each mapped once. Unmapped with the object, which the device outlives.
class DeviceMapping {
 public:
  // Sets the view's bases. Requires: view.was_ready() and view.on_device().
  static Result<std::unique_ptr<DeviceMapping>> Create(RegionView& view, kernels::CudaDevice& device);
  ~DeviceMapping();

 private:
  explicit DeviceMapping(kernels::CudaDevice& device) : device_(device) {}

  kernels::CudaDevice& device_;
  std::vector<void*> bases_;
};

kernels::CudaUuid DeviceOf(const RegionView& view);

struct LocalSlotAt {
  int layer = 0;
  int local_slot = 0;
};

// Of each slot, in order; those in device memory in few launches. `device` may be null where view.on_device() is not.
Error FingerprintSlots(const RegionView& view, kernels::CudaDevice* device, std::span<const LocalSlotAt> slots,
                       uint64_t* fingerprints);

}  // namespace evenkeel::engine
