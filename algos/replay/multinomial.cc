// SPDX-License-Identifier: Apache-2.0
#include "algos/replay/multinomial.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "algos/base/check.h"

namespace evenkeel::algos {

namespace {

// What Stirling's formula leaves of log k!.
double StirlingTail(double k) {
  static constexpr double kSmall[] = {0.0810614667953272,  0.0413406959554092, 0.0276779256849983, 0.02079067210376509,
                                      0.0166446911898211,  0.0138761288230707, 0.0118967099458917, 0.0104112652619720,
                                      0.00925546218271273, 0.00833056343336287};
  if (k < 10) return kSmall[static_cast<size_t>(k)];
  const double inverse = 1.0 / ((k + 1) * (k + 1));
  return (1.0 / 12 - (1.0 / 360 - inverse / 1260) * inverse) / (k + 1);
}

// p <= 0.5 and n * p small: gaps between successes are geometric.
uint64_t ByInversion(uint64_t n, double p, Rng& rng) {
  const double log_failure = std::log1p(-p);
  uint64_t successes = 0;
  double trials = 0;
  while (true) {
    trials += std::floor(std::log(1.0 - rng.Uniform()) / log_failure) + 1;
    if (trials > static_cast<double>(n)) return successes;
    ++successes;
  }
}

// p <= 0.5 and n * p >= 10.
uint64_t ByRejection(uint64_t n, double p, Rng& rng) {
  const double trials = static_cast<double>(n), odds = p / (1 - p);
  const double deviation = std::sqrt(trials * p * (1 - p));
  const double b = 1.15 + 2.53 * deviation, a = -0.0873 + 0.0248 * b + 0.01 * p;
  const double centre = trials * p + 0.5, v_r = 0.92 - 4.2 / b, alpha = (2.83 + 5.1 / b) * deviation;
  const double mode = std::floor((trials + 1) * p);
  while (true) {
    const double u = rng.Uniform() - 0.5;
    double v = rng.Uniform();
    const double us = 0.5 - std::abs(u), k = std::floor((2 * a / us + b) * u + centre);
    if (us >= 0.07 && v <= v_r) return static_cast<uint64_t>(k);
    if (k < 0 || k > trials) continue;
    v = std::log(v * alpha / (a / (us * us) + b));
    const double bound = (mode + 0.5) * std::log((mode + 1) / (odds * (trials - mode + 1))) +
                         (trials + 1) * std::log((trials - mode + 1) / (trials - k + 1)) +
                         (k + 0.5) * std::log(odds * (trials - k + 1) / (k + 1)) + StirlingTail(mode) +
                         StirlingTail(trials - mode) - StirlingTail(k) - StirlingTail(trials - k);
    if (v <= bound) return static_cast<uint64_t>(k);
  }
}

}  // namespace

uint64_t DrawBinomial(uint64_t n, double p, Rng& rng) {
  EVENKEEL_CHECK(p >= 0 && p <= 1);
  if (p > 0.5) return n - DrawBinomial(n, 1 - p, rng);
  if (n == 0 || p <= 0) return 0;
  return static_cast<double>(n) * p < 10 ? ByInversion(n, p, rng) : ByRejection(n, p, rng);
}

void DrawMultinomial(uint64_t n, std::span<const double> weights, std::span<uint64_t> counts, Rng& rng) {
  EVENKEEL_CHECK(weights.size() == counts.size());
  double rest = 0;
  size_t last = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    rest += weights[i];
    if (weights[i] > 0) last = i;
  }
  EVENKEEL_CHECK(rest > 0 && std::isfinite(rest));
  for (size_t i = 0; i < weights.size(); ++i) {
    counts[i] = i == last ? n : DrawBinomial(n, std::clamp(weights[i] / rest, 0.0, 1.0), rng);
    if (i > last) counts[i] = 0;
    n -= counts[i];
    rest = std::max(rest - weights[i], weights[last]);
  }
}

}  // namespace evenkeel::algos
