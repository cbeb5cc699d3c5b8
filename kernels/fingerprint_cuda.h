// SPDX-License-Identifier: Apache-2.0
//
// Fingerprints on the GPU: the values of kernels/host/fingerprint.h, many slots in one launch.
//
// A busy GPU feels launches, not bytes (protocol, rule 33): give a whole wave at once.
//
// Threads:   any; the work is ordered by the stream.
// Memory:    `parts` and `sums` must be readable by the device until the stream has passed the launch.
// Errors:    a cudaError_t as int, so that callers need no CUDA header: 0 is success. Faults of the kernel itself are
//            reported by a later call on the stream, as CUDA does.
#pragma once

#include <cstdint>

namespace evenkeel::kernels {

// A run of bytes of one tensor of one expert, in device memory.
struct FingerprintPart {
  const void* data;     // any alignment; fastest at 16 bytes
  uint64_t bytes;       // only the last part of a tensor may end within a word
  uint64_t first_word;  // position of the part within the tensor
  uint32_t tensor;      // index within the expert
  uint32_t sum_idx;     // the expert: which of `sums` it is added to
};

// Sets sums [num_sums] (device memory) to the sums over their parts; FinishFingerprint makes fingerprints of them.
// `stream` is a cudaStream_t, null: the default one.
int LaunchFingerprintSums(const FingerprintPart* parts, int num_parts, uint64_t* sums, int num_sums, void* stream);

}  // namespace evenkeel::kernels
