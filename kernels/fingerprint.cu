// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include "kernels/fingerprint_cuda.h"
#include "kernels/host/fingerprint.h"

namespace evenkeel::kernels {

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
// Blocks of one part: enough for a part of tens of MB to fill a GPU, few enough for many parts at once.
constexpr int kBlocksPerPart = 256;
constexpr int kPartsMax = 65535;  // of a grid's second dimension

// Word `word` of the part, its last one filled with zeros; for parts that are not 16-byte aligned, and for tails.
__device__ uint64_t ReadWord(const FingerprintPart& part, uint64_t word) {
  const auto* bytes = static_cast<const unsigned char*>(part.data) + word * 8;
  const uint64_t left = part.bytes - word * 8;
  uint64_t value = 0;
  for (uint64_t i = 0; i < 8 && i < left; ++i) value |= uint64_t{bytes[i]} << (8 * i);
  return value;
}

__device__ uint64_t SumOverBlock(uint64_t sum) {
  __shared__ uint64_t warp_sums[kWarps];
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(0xFFFFFFFFu, sum, offset);
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = sum;
  __syncthreads();
  uint64_t total = 0;
  if (threadIdx.x == 0) {
    for (int w = 0; w < kWarps; ++w) total += warp_sums[w];
  }
  return total;
}

__global__ void FingerprintSums(const FingerprintPart* parts, uint64_t* sums) {
  const FingerprintPart part = parts[blockIdx.y];
  const uint64_t thread = uint64_t{blockIdx.x} * kThreads + threadIdx.x;
  const uint64_t num_threads = uint64_t{gridDim.x} * kThreads;
  const uint64_t base = FingerprintSalt(part.tensor, part.first_word);
  uint64_t sum = 0;
  uint64_t num_paired = 0;  // words read two at a time
  if (reinterpret_cast<uintptr_t>(part.data) % sizeof(ulonglong2) == 0) {
    const auto* pairs = static_cast<const ulonglong2*>(part.data);
    const uint64_t num_pairs = part.bytes / sizeof(ulonglong2);
    num_paired = num_pairs * 2;
    for (uint64_t i = thread; i < num_pairs; i += num_threads) {
      const ulonglong2 pair = pairs[i];
      const uint64_t salt = base + 2 * i * kFingerprintStep;
      sum += FingerprintTerm(pair.x, salt) + FingerprintTerm(pair.y, salt + kFingerprintStep);
    }
  }
  const uint64_t num_words = (part.bytes + 7) / 8;
  for (uint64_t word = num_paired + thread; word < num_words; word += num_threads) {
    sum += FingerprintTerm(ReadWord(part, word), base + word * kFingerprintStep);
  }
  const uint64_t total = SumOverBlock(sum);
  if (threadIdx.x == 0 && total != 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(&sums[part.sum_idx]), static_cast<unsigned long long>(total));
  }
}

}  // namespace

int LaunchFingerprintSums(const FingerprintPart* parts, int num_parts, uint64_t* sums, int num_sums, void* stream) {
  if (num_parts < 0 || num_parts > kPartsMax || num_sums < 0) return cudaErrorInvalidValue;
  const auto on = static_cast<cudaStream_t>(stream);
  if (num_sums == 0) return cudaSuccess;
  const cudaError_t cleared = cudaMemsetAsync(sums, 0, static_cast<size_t>(num_sums) * sizeof(uint64_t), on);
  if (cleared != cudaSuccess || num_parts == 0) return cleared;
  FingerprintSums<<<dim3(kBlocksPerPart, static_cast<unsigned>(num_parts)), kThreads, 0, on>>>(parts, sums);
  return cudaGetLastError();
}

}  // namespace evenkeel::kernels
