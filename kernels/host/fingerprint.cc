// SPDX-License-Identifier: Apache-2.0
#include "kernels/host/fingerprint.h"

#include <cstring>

namespace evenkeel::kernels {

uint64_t FingerprintSum(const void* data, uint64_t bytes, uint32_t tensor, uint64_t first_word) {
  const auto* next = static_cast<const unsigned char*>(data);
  uint64_t salt = FingerprintSalt(tensor, first_word);
  uint64_t sum = 0;
  for (uint64_t words = bytes / 8; words > 0; --words, next += 8, salt += kFingerprintStep) {
    uint64_t word;
    std::memcpy(&word, next, 8);
    sum += FingerprintTerm(word, salt);
  }
  if (const uint64_t rest = bytes % 8; rest > 0) {
    uint64_t word = 0;
    std::memcpy(&word, next, rest);
    sum += FingerprintTerm(word, salt);
  }
  return sum;
}

}  // namespace evenkeel::kernels
