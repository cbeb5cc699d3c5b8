// SPDX-License-Identifier: Apache-2.0
//
// FingerprintOnDevice: what a test needs of a GPU, without CUDA headers.
#pragma once

#include <cstdint>
#include <vector>

namespace evenkeel::kernels {

struct HostPart {
  std::vector<unsigned char> bytes;
  uint64_t first_word = 0;
  uint32_t tensor = 0;
  uint32_t sum_idx = 0;
  uint64_t misalignment = 0;  // bytes off a 256-byte boundary
};

struct DeviceSums {
  int error = 0;  // a cudaError_t
  std::vector<uint64_t> sums;
  double gigabytes_per_second = 0;  // of the second launch of two
};

// Copies the parts to the device, launches twice and copies the sums back.
DeviceSums FingerprintOnDevice(const std::vector<HostPart>& parts, int num_sums);

// False where there is no GPU to run on.
bool HasDevice();

}  // namespace evenkeel::kernels
