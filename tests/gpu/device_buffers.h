// SPDX-License-Identifier: Apache-2.0
//
// Device memory of every kind, for tests and benchmarks, without CUDA headers.
#pragma once

#include <cstdint>

namespace evenkeel::gpu {

int NumGpus();  // 0 also where there is no driver

enum class Kind { kPlain, kAsync, kMapped, kManaged };

// Memory on GPU `ordinal` by cudaMalloc, cudaMallocAsync, cuMemMap or cudaMallocManaged; null where that fails. Kept
// until the process ends.
void* Take(int ordinal, Kind kind, uint64_t bytes);
bool Fill(void* to, const void* from, uint64_t bytes);
uint64_t FreeBytes(int ordinal);

}  // namespace evenkeel::gpu
