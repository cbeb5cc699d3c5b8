// SPDX-License-Identifier: Apache-2.0
//
// Hashes with results fixed for ever: digests of maps and traces are compared between processes and releases.
#pragma once

#include <cstdint>

namespace evenkeel {

// Finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64 bits with good avalanche.
constexpr uint64_t MixBits(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// Order-dependent digest of a sequence of integers. Not cryptographic.
class Digest {
 public:
  constexpr void Add(uint64_t value) { state_ = MixBits(state_ ^ value) + 0x9E3779B97F4A7C15u; }
  constexpr uint64_t value() const { return MixBits(state_); }

 private:
  uint64_t state_ = 0x243F6A8885A308D3u;
};

}  // namespace evenkeel
