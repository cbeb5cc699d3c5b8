// SPDX-License-Identifier: Apache-2.0
//
// Copies within one GPU: the many tensors of an expert (weights and small scales) from slot to slot in one launch.
//
// A busy GPU feels launches, not bytes (protocol, rule 33).
//
// Memory:    `parts` and what they name must be readable by the device until the stream has passed the launch;
//            parts must not overlap.
// Errors:    launchers return cudaError_t as int; cudaErrorInvalidValue for sizes that make no sense.
#pragma once

#include <cstdint>

namespace evenkeel::kernels {

struct CopyPart {
  const void* from;  // any alignment; fastest where both are aligned to 16 bytes
  void* to;
  uint64_t bytes;
};

// At most 65,535 parts in a launch.
int LaunchCopyParts(const CopyPart* parts, int num_parts, void* stream);

}  // namespace evenkeel::kernels
