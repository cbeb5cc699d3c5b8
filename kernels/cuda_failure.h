// SPDX-License-Identifier: Apache-2.0
//
// What CUDA's runtime and driver answer, as sentences. For the package's own .cu files alone.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdio>

#include "kernels/cuda_memory.h"

namespace evenkeel::kernels {

inline CudaFailure Fail(const char* what, const char* why) {
  CudaFailure failure;
  failure.failed = true;
  std::snprintf(failure.text, sizeof(failure.text), "%s: %s", what, why);
  return failure;
}

inline CudaFailure Check(const char* what, cudaError_t code) {
  if (code == cudaSuccess) return {};
  static_cast<void>(cudaGetLastError());  // or a later call would answer it once more
  if (code == cudaErrorInsufficientDriver) {
    return Fail(what, "no NVIDIA driver (libcuda.so.1) that CUDA 13 can use is on this machine");
  }
  if (code == cudaErrorNoDevice) return Fail(what, "there is no NVIDIA GPU that this process may use");
  return Fail(what, cudaGetErrorString(code));
}

// A function of the driver, null where it has none of that name.
template <typename Function>
Function DriverFunction(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  const cudaError_t code = cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result);
#else
  const cudaError_t code = cudaGetDriverEntryPoint(name, &found, cudaEnableDefault, &result);
#endif
  if (code != cudaSuccess || result != cudaDriverEntryPointSuccess) return nullptr;
  return reinterpret_cast<Function>(found);
}

}  // namespace evenkeel::kernels
