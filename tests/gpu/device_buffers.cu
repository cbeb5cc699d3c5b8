// SPDX-License-Identifier: Apache-2.0
#include "tests/gpu/device_buffers.h"

#include <cuda.h>
#include <cuda_runtime.h>

namespace evenkeel::gpu {

namespace {

template <typename Function>
Function Driver(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result);
  return reinterpret_cast<Function>(found);
}

void* TakeMapped(int ordinal, uint64_t bytes) {
  CUmemAllocationProp properties = {};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties.location.id = ordinal;
  const auto granularity_of = Driver<decltype(&cuMemGetAllocationGranularity)>("cuMemGetAllocationGranularity");
  const auto reserve = Driver<decltype(&cuMemAddressReserve)>("cuMemAddressReserve");
  const auto create = Driver<decltype(&cuMemCreate)>("cuMemCreate");
  const auto map = Driver<decltype(&cuMemMap)>("cuMemMap");
  const auto set_access = Driver<decltype(&cuMemSetAccess)>("cuMemSetAccess");
  size_t unit = 0;
  if (granularity_of(&unit, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM) != CUDA_SUCCESS) return nullptr;
  const size_t size = (bytes + unit - 1) / unit * unit;
  CUdeviceptr at = 0;
  CUmemGenericAllocationHandle handle = 0;
  CUmemAccessDesc access = {};
  access.location = properties.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  if (reserve(&at, size, 0, 0, 0) != CUDA_SUCCESS || create(&handle, size, &properties, 0) != CUDA_SUCCESS ||
      map(at, size, 0, handle, 0) != CUDA_SUCCESS || set_access(at, size, &access, 1) != CUDA_SUCCESS) {
    return nullptr;
  }
  return reinterpret_cast<void*>(at);
}

}  // namespace

int NumGpus() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

void* Take(int ordinal, Kind kind, uint64_t bytes) {
  if (cudaSetDevice(ordinal) != cudaSuccess || cudaFree(nullptr) != cudaSuccess) return nullptr;
  void* memory = nullptr;
  switch (kind) {
    case Kind::kPlain:
      return cudaMalloc(&memory, bytes) == cudaSuccess ? memory : nullptr;
    case Kind::kAsync:
      if (cudaMallocAsync(&memory, bytes, nullptr) != cudaSuccess) return nullptr;
      return cudaStreamSynchronize(nullptr) == cudaSuccess ? memory : nullptr;
    case Kind::kMapped:
      return TakeMapped(ordinal, bytes);
    case Kind::kManaged:
      return cudaMallocManaged(&memory, bytes) == cudaSuccess ? memory : nullptr;
  }
  return nullptr;
}

bool Fill(void* to, const void* from, uint64_t bytes) {
  return cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice) == cudaSuccess;
}

uint64_t FreeBytes(int ordinal) {
  size_t free = 0, total = 0;
  if (cudaSetDevice(ordinal) != cudaSuccess || cudaMemGetInfo(&free, &total) != cudaSuccess) return 0;
  return free;
}

}  // namespace evenkeel::gpu
