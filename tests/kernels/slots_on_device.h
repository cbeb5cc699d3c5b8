// SPDX-License-Identifier: Apache-2.0
//
// Folding, adding and copying on a GPU for tests, without CUDA headers.
#pragma once

#include <cstdint>
#include <vector>

namespace evenkeel::kernels {

struct CountsOutcome {
  int error = 0;  // a cudaError_t
  std::vector<uint64_t> counters;
};

// `counters` before and after.
CountsOutcome FoldOnDevice(const std::vector<uint64_t>& per_slot, const std::vector<int32_t>& expert_of_slot,
                           std::vector<uint64_t> counters);
CountsOutcome AddOnDevice(const std::vector<int64_t>& values, int32_t value_bytes, bool cumulative,
                          std::vector<uint64_t> counters);

// Where a part lies in `bytes`.
struct CopySpan {
  uint64_t from = 0;
  uint64_t to = 0;
  uint64_t bytes = 0;
};

struct CopyOutcome {
  int error = 0;
  std::vector<unsigned char> bytes;
};

// Copies all spans within one allocation in one launch.
CopyOutcome CopyOnDevice(const std::vector<unsigned char>& bytes, const std::vector<CopySpan>& spans);

}  // namespace evenkeel::kernels
