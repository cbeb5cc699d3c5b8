// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include "kernels/copy_cuda.h"

namespace evenkeel::kernels {

namespace {

constexpr int kThreads = 256;
// Enough for one part of tens of MB to come near the memory's bandwidth; the grid's second dimension is the part.
constexpr int kBlocksPerPart = 128;
constexpr int kPartsMax = 65535;
constexpr int kUnroll = 4;

__global__ void __launch_bounds__(kThreads) CopyParts(const CopyPart* parts) {
  const CopyPart part = parts[blockIdx.y];
  const uint64_t thread = uint64_t{blockIdx.x} * kThreads + threadIdx.x;
  const uint64_t num_threads = uint64_t{gridDim.x} * kThreads;
  const auto* from = static_cast<const unsigned char*>(part.from);
  auto* to = static_cast<unsigned char*>(part.to);
  const bool aligned = (reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to)) % sizeof(uint4) == 0;
  const uint64_t num_vectors = aligned ? part.bytes / sizeof(uint4) : 0;
  const auto* vectors_from = reinterpret_cast<const uint4*>(from);
  auto* vectors_to = reinterpret_cast<uint4*>(to);
  uint64_t v = thread;
  for (; v + (kUnroll - 1) * num_threads < num_vectors; v += kUnroll * num_threads) {
    uint4 read[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) read[i] = vectors_from[v + i * num_threads];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) vectors_to[v + i * num_threads] = read[i];
  }
  for (; v < num_vectors; v += num_threads) vectors_to[v] = vectors_from[v];
  for (uint64_t byte = num_vectors * sizeof(uint4) + thread; byte < part.bytes; byte += num_threads) {
    to[byte] = from[byte];
  }
}

}  // namespace

int LaunchCopyParts(const CopyPart* parts, int num_parts, void* stream) {
  if (num_parts < 0 || num_parts > kPartsMax) return cudaErrorInvalidValue;
  if (num_parts == 0) return cudaSuccess;
  CopyParts<<<dim3(kBlocksPerPart, static_cast<unsigned>(num_parts)), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      parts);
  return cudaGetLastError();
}

}  // namespace evenkeel::kernels
