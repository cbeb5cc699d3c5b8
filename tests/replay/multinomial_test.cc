// SPDX-License-Identifier: Apache-2.0
#include "algos/replay/multinomial.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "catch2/catch.hpp"

namespace evenkeel::algos {
namespace {

// log of the probability of k successes.
double LogMass(uint64_t n, double p, uint64_t k) {
  const double trials = static_cast<double>(n), hits = static_cast<double>(k);
  return std::lgamma(trials + 1) - std::lgamma(hits + 1) - std::lgamma(trials - hits + 1) + hits * std::log(p) +
         (trials - hits) * std::log1p(-p);
}

TEST_CASE("binomial draws follow their distribution, value by value", "[multinomial]") {
  const auto [n, p] = GENERATE(table<uint64_t, double>(
      {{1, 0.3}, {10, 0.5}, {40, 0.2}, {100, 0.25}, {100, 0.9}, {1000, 0.004}, {5000, 0.02}, {60, 0.5}}));
  CAPTURE(n, p);
  constexpr int kDraws = 200'000;
  Rng rng(n);
  std::vector<double> seen(n + 1, 0);
  for (int i = 0; i < kDraws; ++i) {
    const uint64_t k = DrawBinomial(n, p, rng);
    REQUIRE(k <= n);
    ++seen[k];
  }
  // Pearson's statistic over the values that are expected five times or more: its mean is their number.
  double statistic = 0;
  int num_values = 0;
  for (uint64_t k = 0; k <= n; ++k) {
    const double expected = kDraws * std::exp(LogMass(n, p, k));
    if (expected < 5) continue;
    statistic += (seen[k] - expected) * (seen[k] - expected) / expected;
    ++num_values;
  }
  CHECK(statistic < num_values + 5 * std::sqrt(2.0 * num_values) + 5);
}

TEST_CASE("multinomial draws keep the total and give nothing to weights of zero", "[multinomial]") {
  Rng rng(1);
  const std::vector<double> weights = {0, 0.5, 0, 1e-9, 0.25, 0.25, 0};
  std::vector<uint64_t> counts(weights.size()), sums(weights.size(), 0);
  for (int i = 0; i < 100; ++i) {
    DrawMultinomial(100'000, weights, counts, rng);
    CHECK(std::accumulate(counts.begin(), counts.end(), uint64_t{0}) == 100'000);
    for (size_t w = 0; w < weights.size(); ++w) sums[w] += counts[w];
  }
  CHECK(sums[0] + sums[2] + sums[6] == 0);
  CHECK(static_cast<double>(sums[1]) == Approx(5e6).epsilon(0.002));
  CHECK(static_cast<double>(sums[5]) == Approx(2.5e6).epsilon(0.004));
}

TEST_CASE("certain and impossible outcomes are drawn as such", "[multinomial]") {
  Rng rng(2);
  CHECK(DrawBinomial(7, 0, rng) == 0);
  CHECK(DrawBinomial(7, 1, rng) == 7);
  CHECK(DrawBinomial(0, 0.5, rng) == 0);
}

}  // namespace
}  // namespace evenkeel::algos
