// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/assignment.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>

#include "algos/base/rng.h"

namespace evenkeel::algos {
namespace {

int64_t SumOf(std::span<const int32_t> values, std::span<const uint32_t> columns) {
  int64_t sum = 0;
  for (size_t row = 0; row < columns.size(); ++row) sum += values[row * columns.size() + columns[row]];
  return sum;
}

bool IsPermutation(std::span<const uint32_t> columns) {
  std::vector<bool> seen(columns.size(), false);
  for (uint32_t column : columns) {
    if (column >= columns.size() || seen[column]) return false;
    seen[column] = true;
  }
  return true;
}

int64_t BestByTryingAll(std::span<const int32_t> values, size_t n) {
  std::vector<uint32_t> columns(n);
  std::iota(columns.begin(), columns.end(), 0u);
  int64_t best = SumOf(values, columns);
  while (std::next_permutation(columns.begin(), columns.end())) best = std::max(best, SumOf(values, columns));
  return best;
}

TEST_CASE("no permutation of up to seven rows is better", "[assignment]") {
  const uint64_t seed = GENERATE(range(0, 200));
  CAPTURE(seed);
  Rng rng(seed);
  const size_t n = static_cast<size_t>(rng.Between(1, 7));
  const int64_t largest = rng.Chance(0.5) ? 3 : 1000;
  std::vector<int32_t> values(n * n);
  for (int32_t& value : values) value = static_cast<int32_t>(rng.Between(-largest / 2, largest));
  Assigner assigner;
  const auto columns = assigner.Solve(values, n);
  REQUIRE(IsPermutation(columns));
  CHECK(SumOf(values, columns) == BestByTryingAll(values, n));
}

TEST_CASE("a hidden permutation of 64 rows is found", "[assignment]") {
  Rng rng(11);
  const size_t n = Assigner::kExactMax;
  std::vector<uint32_t> hidden(n);
  std::iota(hidden.begin(), hidden.end(), 0u);
  rng.Shuffle(hidden);
  std::vector<int32_t> values(n * n);
  for (int32_t& value : values) value = static_cast<int32_t>(rng.Below(5));
  for (size_t row = 0; row < n; ++row) values[row * n + hidden[row]] = 9;
  Assigner assigner;
  const auto columns = assigner.Solve(values, n);
  CHECK(std::equal(columns.begin(), columns.end(), hidden.begin(), hidden.end()));
}

TEST_CASE("beyond the exact limit it is still a permutation, and at least half of the best", "[assignment]") {
  const uint64_t seed = GENERATE(range(0, 5));
  CAPTURE(seed);
  Rng rng(seed);
  const size_t n = Assigner::kExactMax + 30;
  std::vector<int32_t> values(n * n);
  for (int32_t& value : values) value = static_cast<int32_t>(rng.Below(3));
  for (size_t row = 0; row < n; ++row) values[row * n + row] = 10;
  Assigner assigner;
  const auto columns = assigner.Solve(values, n);
  REQUIRE(IsPermutation(columns));
  CHECK(SumOf(values, columns) >= static_cast<int64_t>(5 * n));
}

}  // namespace
}  // namespace evenkeel::algos
