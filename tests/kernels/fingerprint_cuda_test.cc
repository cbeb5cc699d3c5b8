// SPDX-License-Identifier: Apache-2.0
#include "kernels/fingerprint_cuda.h"

#include <cstdint>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/base/rng.h"
#include "kernels/host/fingerprint.h"
#include "tests/kernels/fingerprint_on_device.h"

namespace evenkeel::kernels {
namespace {

HostPart RandomPart(Rng& rng, uint64_t bytes) {
  HostPart part;
  part.bytes.resize(bytes);
  for (unsigned char& byte : part.bytes) byte = static_cast<unsigned char>(rng.Next());
  return part;
}

std::vector<uint64_t> SumsOnHost(const std::vector<HostPart>& parts, int num_sums) {
  std::vector<uint64_t> sums(static_cast<size_t>(num_sums), 0);
  for (const HostPart& part : parts) {
    sums[part.sum_idx] += FingerprintSum(part.bytes.data(), part.bytes.size(), part.tensor, part.first_word);
  }
  return sums;
}

void CheckEqual(const std::vector<HostPart>& parts, int num_sums) {
  const DeviceSums on_device = FingerprintOnDevice(parts, num_sums);
  REQUIRE(on_device.error == 0);
  CHECK(on_device.sums == SumsOnHost(parts, num_sums));
}

}  // namespace

TEST_CASE("there is a GPU to test on", "[gpu]") { REQUIRE(HasDevice()); }

TEST_CASE("the GPU's sum of one part is the CPU's, whatever its size and alignment", "[gpu]") {
  const uint64_t bytes = GENERATE(0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 255, 4096, 65537, 1'000'003);
  const uint64_t misalignment = GENERATE(0, 1, 4, 8);
  CAPTURE(bytes, misalignment);
  Rng rng(bytes + 1);
  HostPart part = RandomPart(rng, bytes);
  part.misalignment = misalignment;
  part.tensor = 3;
  part.first_word = 5;
  CheckEqual({part}, 1);
}

TEST_CASE("many parts of many experts are summed in one launch", "[gpu]") {
  const uint64_t seed = GENERATE(range(1, 11));
  CAPTURE(seed);
  Rng rng(seed);
  const int num_sums = 1 + static_cast<int>(rng.Below(40));
  std::vector<HostPart> parts;
  for (int i = 0; i < 100; ++i) {
    parts.push_back(RandomPart(rng, rng.Below(20'000)));
    parts.back().tensor = static_cast<uint32_t>(rng.Below(5));
    parts.back().first_word = rng.Below(1000);
    parts.back().sum_idx = static_cast<uint32_t>(rng.Below(static_cast<uint64_t>(num_sums)));
    parts.back().misalignment = rng.Below(17);
  }
  CheckEqual(parts, num_sums);
}

TEST_CASE("an expert of tens of megabytes has the CPU's sum; a flipped bit changes it", "[gpu]") {
  Rng rng(1);
  std::vector<HostPart> parts = {RandomPart(rng, 88'080'384)};
  const DeviceSums before = FingerprintOnDevice(parts, 1);
  REQUIRE(before.error == 0);
  CHECK(before.sums == SumsOnHost(parts, 1));
  WARN("88 MB in one launch: " << before.gigabytes_per_second << " GB/s");

  parts[0].bytes[50'000'001] ^= 16;
  const DeviceSums after = FingerprintOnDevice(parts, 1);
  CHECK(after.sums != before.sums);
  CHECK(after.sums == SumsOnHost(parts, 1));
}

TEST_CASE("no parts give zero sums and too many parts are refused", "[gpu]") {
  CheckEqual({}, 3);
  CHECK(LaunchFingerprintSums(nullptr, 65536, nullptr, 1, nullptr) != 0);
  CHECK(LaunchFingerprintSums(nullptr, -1, nullptr, 1, nullptr) != 0);
}

}  // namespace evenkeel::kernels
