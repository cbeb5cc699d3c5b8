// SPDX-License-Identifier: Apache-2.0
#include "kernels/host/fingerprint.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/base/rng.h"

namespace evenkeel::kernels {
namespace {

std::vector<unsigned char> RandomBytes(Rng& rng, size_t size) {
  std::vector<unsigned char> bytes(size);
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(rng.Next());
  return bytes;
}

uint64_t Of(const std::vector<unsigned char>& bytes, uint32_t tensor = 0, uint64_t version = 1) {
  return FinishFingerprint(FingerprintSum(bytes.data(), bytes.size(), tensor), version);
}

}  // namespace

TEST_CASE("any single flipped bit changes the fingerprint", "[fingerprint]") {
  Rng rng(1);
  for (size_t size : {1u, 7u, 8u, 9u, 64u, 100u}) {
    std::vector<unsigned char> bytes = RandomBytes(rng, size);
    const uint64_t before = Of(bytes);
    for (size_t bit = 0; bit < size * 8; ++bit) {
      bytes[bit / 8] = static_cast<unsigned char>(bytes[bit / 8] ^ 1 << bit % 8);
      REQUIRE(Of(bytes) != before);
      bytes[bit / 8] = static_cast<unsigned char>(bytes[bit / 8] ^ 1 << bit % 8);
    }
    CHECK(Of(bytes) == before);
  }
}

TEST_CASE("swapped words, swapped tensors and another weights version change the fingerprint", "[fingerprint]") {
  Rng rng(2);
  const std::vector<unsigned char> bytes = RandomBytes(rng, 64);
  std::vector<unsigned char> swapped = bytes;
  std::swap_ranges(swapped.begin(), swapped.begin() + 8, swapped.begin() + 32);

  CHECK(Of(swapped) != Of(bytes));
  CHECK(Of(bytes, 1) != Of(bytes, 0));
  CHECK(Of(bytes, 0, 2) != Of(bytes, 0, 1));
}

TEST_CASE("a tensor cut in parts at any word has the sum of its parts", "[fingerprint]") {
  const uint64_t seed = GENERATE(range(1, 20));
  CAPTURE(seed);
  Rng rng(seed);
  const std::vector<unsigned char> bytes = RandomBytes(rng, 1 + rng.Below(1000));
  const uint64_t whole = FingerprintSum(bytes.data(), bytes.size(), 3);

  const uint64_t cut = rng.Below(bytes.size() / 8 + 1);
  const uint64_t sum =
      FingerprintSum(bytes.data(), cut * 8, 3) + FingerprintSum(bytes.data() + cut * 8, bytes.size() - cut * 8, 3, cut);

  CHECK(sum == whole);
}

TEST_CASE("the fingerprint is the one that other releases and the GPU compute", "[fingerprint]") {
  // Word by word from the definition in the header, and the value as it was when it was fixed.
  std::vector<unsigned char> bytes(20);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(i);
  uint64_t words[3] = {};
  std::memcpy(words, bytes.data(), bytes.size());
  uint64_t sum = 0;
  for (uint64_t i = 0; i < 3; ++i) sum += FingerprintTerm(words[i], FingerprintSalt(2, i));

  CHECK(FingerprintSum(bytes.data(), bytes.size(), 2) == sum);
  CHECK(FinishFingerprint(sum, 5) == 0xE71B228585ED170Fu);
}

}  // namespace evenkeel::kernels
