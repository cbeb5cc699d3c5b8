// SPDX-License-Identifier: Apache-2.0
//
// Fingerprint: 64 bits that tell whether an expert's tensors arrived whole; equal on CPU and GPU.
//
// A sum over all 8-byte little-endian words of all tensors, each mixed with its position and its tensor's index, so
// any split among threads or launches gives the same value. Any change of a single word changes it; other changes are
// missed with a chance of 2^-64. Not cryptographic. The weights version is part of it.
//
// Threads:   none.
#pragma once

#include <cstdint>

namespace evenkeel::kernels {

// Term of one word; CUDA uses the same. A bijection of `word` for given tensor and position.
constexpr uint64_t FingerprintTerm(uint64_t word, uint64_t position_salt) {
  uint64_t x = word ^ position_salt;
  x = (x ^ (x >> 32)) * 0xD6E8FEB86659FD93u;
  x = (x ^ (x >> 32)) * 0xA0761D6478BD642Fu;
  return x ^ (x >> 32);
}

// Salt of the word at `position` of a tensor.
inline constexpr uint64_t kFingerprintStep = 0x9E3779B97F4A7C15u;
constexpr uint64_t FingerprintSalt(uint32_t tensor, uint64_t position) {
  return (uint64_t{tensor} + 1) * 0xE7037ED1A0B428DBu + position * kFingerprintStep;
}

// Partial sum over `bytes` of tensor `tensor`, beginning with its word `first_word`; a last incomplete word is filled
// with zeros. Partial sums of an expert are added. Requires: only the last part of a tensor has an incomplete word.
uint64_t FingerprintSum(const void* data, uint64_t bytes, uint32_t tensor, uint64_t first_word = 0);

// The fingerprint, of the sum over all parts of all tensors.
constexpr uint64_t FinishFingerprint(uint64_t sum, uint64_t weights_version) {
  return FingerprintTerm(sum, FingerprintTerm(weights_version, kFingerprintStep));
}

}  // namespace evenkeel::kernels
