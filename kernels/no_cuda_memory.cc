// SPDX-License-Identifier: Apache-2.0
//
// CudaMemory of builds without nvcc: says so.
#include <cstdio>

#include "kernels/cuda_memory.h"

namespace evenkeel::kernels {

namespace {

CudaFailure Absent() {
  CudaFailure failure;
  failure.failed = true;
  std::snprintf(failure.text, sizeof(failure.text), "this build has no CUDA: no nvcc was installed where it was made");
  return failure;
}

}  // namespace

CudaFailure ExportCudaMemory(const void*, ExportedMemory*) { return Absent(); }
CudaFailure CudaDevice::Open(const CudaUuid&, std::unique_ptr<CudaDevice>*) { return Absent(); }
CudaDevice::~CudaDevice() = default;
CudaFailure CudaDevice::Map(const CudaIpcHandle&, void**) { return Absent(); }
void CudaDevice::Unmap(void*) {}
void CudaDevice::Copy(void*, const void*, uint64_t) {}
CudaFailure CudaDevice::Submit() { return Absent(); }
CudaFailure CudaDevice::Wait() { return Absent(); }
CudaFailure CudaDevice::FingerprintSums(const DeviceBytes*, int, uint64_t*, int) { return Absent(); }
uint64_t CudaDevice::scratch_bytes() { return 0; }

}  // namespace evenkeel::kernels
