// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/base/rng.h"
#include "tests/kernels/slots_on_device.h"

namespace evenkeel::kernels {
namespace {

std::vector<uint64_t> RandomCounters(Rng& rng, size_t size) {
  std::vector<uint64_t> counters(size);
  for (uint64_t& counter : counters) counter = rng.Next() >> 20;
  return counters;
}

}  // namespace

TEST_CASE("counts per slot fold to experts, blanks left out", "[gpu]") {
  const size_t num_slots = GENERATE(0, 1, 31, 32, 33, 288, 5001);
  CAPTURE(num_slots);
  Rng rng(num_slots + 1);
  std::vector<int32_t> expert_of_slot;
  for (size_t s = 0; s < num_slots; ++s) expert_of_slot.push_back(static_cast<int32_t>(rng.Below(65)) - 1);
  const std::vector<uint64_t> per_slot = RandomCounters(rng, num_slots), before = RandomCounters(rng, 64);
  std::vector<uint64_t> expected = before;
  for (size_t s = 0; s < num_slots; ++s) {
    if (expert_of_slot[s] >= 0) expected[static_cast<size_t>(expert_of_slot[s])] += per_slot[s];
  }
  const CountsOutcome outcome = FoldOnDevice(per_slot, expert_of_slot, before);
  REQUIRE(outcome.error == 0);
  CHECK(outcome.counters == expected);
}

TEST_CASE("an engine's own counts are added, plain and cumulative, of both types", "[gpu]") {
  const size_t num_local = GENERATE(0, 1, 31, 32, 33, 1000);
  const int32_t value_bytes = GENERATE(4, 8);
  const bool cumulative = GENERATE(false, true);
  CAPTURE(num_local, value_bytes, cumulative);
  Rng rng(num_local * 4 + static_cast<uint64_t>(value_bytes) + cumulative);
  std::vector<int64_t> values;
  const std::vector<uint64_t> before = RandomCounters(rng, num_local);
  std::vector<uint64_t> expected = before;
  int64_t sum = 0;
  for (size_t i = 0; i < num_local; ++i) {
    const auto count = static_cast<int64_t>(rng.Below(1000));
    sum += count;
    values.push_back(cumulative ? sum : count);
    expected[i] += static_cast<uint64_t>(count);
  }
  const CountsOutcome outcome = AddOnDevice(values, value_bytes, cumulative, before);
  REQUIRE(outcome.error == 0);
  CHECK(outcome.counters == expected);
}

TEST_CASE("many parts of any size and alignment are copied in one launch, and nothing beside them", "[gpu]") {
  const uint64_t seed = GENERATE(range(1, 9));
  CAPTURE(seed);
  Rng rng(seed);
  constexpr uint64_t kHalf = 4 << 20;
  std::vector<unsigned char> bytes(2 * kHalf);
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(rng.Next());
  std::vector<CopySpan> spans;
  uint64_t at = 0;
  for (uint64_t size : {0, 1, 15, 16, 17, 31, 32, 33, 4096, 65537, 1 << 20}) {
    const uint64_t from = at + rng.Below(33), to = at + rng.Below(33);
    spans.push_back({from, kHalf + to, size});
    at += size + 64;
  }
  std::vector<unsigned char> expected = bytes;
  for (const CopySpan& span : spans) {
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(span.from), span.bytes,
                expected.begin() + static_cast<std::ptrdiff_t>(span.to));
  }
  const CopyOutcome outcome = CopyOnDevice(bytes, spans);
  REQUIRE(outcome.error == 0);
  CHECK(outcome.bytes == expected);
}

}  // namespace evenkeel::kernels
