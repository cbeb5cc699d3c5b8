// SPDX-License-Identifier: Apache-2.0
#include "algos/flex/load_filter.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "algos/base/rng.h"
#include "algos/flex/factors.h"
#include "algos/problem.h"
#include "algos/replay/multinomial.h"

namespace evenkeel::algos {
namespace {

constexpr int kLayers = 4, kExperts = 64;
constexpr uint64_t kTokens = 40'000;

std::vector<double> RandomProfile(Rng& rng) {
  std::vector<double> weights;
  for (int i = 0; i < kLayers * kExperts; ++i) weights.push_back(std::exp(rng.Normal()));
  for (int layer = 0; layer < kLayers; ++layer) {
    double sum = 0;
    for (int e = 0; e < kExperts; ++e) sum += weights[static_cast<size_t>(layer * kExperts + e)];
    for (int e = 0; e < kExperts; ++e) weights[static_cast<size_t>(layer * kExperts + e)] /= sum;
  }
  return weights;
}

std::vector<double> Mixed(const std::vector<double>& a, const std::vector<double>& b, double part) {
  std::vector<double> mixed = a;
  for (size_t i = 0; i < mixed.size(); ++i) mixed[i] += part * (b[i] - a[i]);
  return mixed;
}

Load Draw(const std::vector<double>& weights, Rng& rng, uint64_t tokens = kTokens) {
  Load load{.num_layers = kLayers, .num_experts = kExperts, .tokens = std::vector<uint64_t>(weights.size())};
  for (size_t at = 0; at < weights.size(); at += kExperts) {
    DrawMultinomial(tokens, std::span(weights).subspan(at, kExperts), std::span(load.tokens).subspan(at, kExperts),
                    rng);
  }
  return load;
}

LoadFilter NewFilter() { return LoadFilter({.num_layers = kLayers, .num_experts = kExperts}); }

// Mean square error over that of one window.
double ErrorOf(const LoadFilter& filter, const std::vector<double>& truth) {
  double sum = 0;
  for (int layer = 0; layer < kLayers; ++layer) {
    const auto expected = filter.Expected(LayerId(layer));
    for (size_t e = 0; e < kExperts; ++e) {
      const double p = truth[static_cast<size_t>(layer) * kExperts + e];
      sum += (expected[e] - p) * (expected[e] - p) / p * kTokens;
    }
  }
  return sum / kLayers / kExperts;
}

TEST_CASE("steady traffic is averaged over many windows", "[flex]") {
  const uint64_t seed = GENERATE(range(uint64_t{1}, uint64_t{6}));
  CAPTURE(seed);
  Rng rng(seed);
  const auto profile = RandomProfile(rng);
  LoadFilter filter = NewFilter();

  for (int t = 0; t < 60; ++t) filter.Observe(Draw(profile, rng));

  CHECK(ErrorOf(filter, profile) < 0.15);
}

TEST_CASE("a change of all traffic is followed at once", "[flex]") {
  const uint64_t seed = GENERATE(range(uint64_t{1}, uint64_t{6}));
  CAPTURE(seed);
  Rng rng(seed);
  LoadFilter filter = NewFilter();
  const auto before = RandomProfile(rng), after = RandomProfile(rng);
  for (int t = 0; t < 60; ++t) filter.Observe(Draw(before, rng));

  filter.Observe(Draw(after, rng));

  CHECK(filter.gain() > 0.9);
  CHECK(ErrorOf(filter, after) < 1.5);
}

TEST_CASE("a mixture that drifts is known better than from any number of its last windows", "[flex]") {
  const uint64_t seed = GENERATE(range(uint64_t{1}, uint64_t{4}));
  CAPTURE(seed);
  Rng rng(seed);
  LoadFilter filter = NewFilter();
  const auto one = RandomProfile(rng), other = RandomProfile(rng);
  const auto mixture = [&](int t) { return Mixed(one, other, 0.5 + 0.4 * std::sin(t * 0.15)); };
  std::vector<Load> windows;
  double error = 0;
  std::vector<double> plain(6, 0.0);
  for (int t = 0; t < 200; ++t) {
    windows.push_back(Draw(mixture(t), rng));
    filter.Observe(windows.back());
    if (t < 50) continue;
    error += ErrorOf(filter, mixture(t));
    for (size_t last = 1; last <= 5; ++last) {
      double sum = 0;
      const auto truth = mixture(t);
      for (size_t i = 0; i < truth.size(); ++i) {
        double mean = 0;
        for (size_t k = 0; k < last; ++k) mean += static_cast<double>(windows[windows.size() - 1 - k].tokens[i]);
        mean /= static_cast<double>(last) * kTokens;
        sum += (mean - truth[i]) * (mean - truth[i]) / truth[i] * kTokens;
      }
      plain[last] += sum / static_cast<double>(truth.size());
    }
  }

  for (size_t last = 1; last <= 5; ++last) CHECK(error < 0.6 * plain[last]);
}

TEST_CASE("expected parts add up to one, and silent layers keep theirs", "[flex]") {
  Rng rng(5);
  const auto profile = RandomProfile(rng);
  LoadFilter filter = NewFilter();
  CHECK(filter.Expected(LayerId(0))[0] == 0);
  for (int t = 0; t < 5; ++t) filter.Observe(Draw(profile, rng));
  const std::vector<double> before(filter.Expected(LayerId(1)).begin(), filter.Expected(LayerId(1)).end());
  Load quiet = Draw(profile, rng);
  for (size_t e = 0; e < kExperts; ++e) quiet.tokens[kExperts + e] = 0;

  filter.Observe(quiet);
  filter.Observe({.num_layers = kLayers, .num_experts = kExperts, .tokens = std::vector<uint64_t>(kLayers * kExperts)});

  for (int layer = 0; layer < kLayers; ++layer) {
    double sum = 0;
    for (double part : filter.Expected(LayerId(layer))) sum += part;
    CHECK(sum == Approx(1.0));
  }
  for (size_t e = 0; e < kExperts; ++e) CHECK(filter.Expected(LayerId(1))[e] == Approx(before[e]).margin(0.01));
}

TEST_CASE("factors find the direction in which vectors move", "[flex]") {
  Factors factors(8, 2, 0.99);
  const std::vector<double> base = {1, 1, 1, 1, 1, 1, 1, 1}, way = {1, -1, 1, -1, 0, 0, 0, 0};
  Rng rng(3);
  for (int t = 0; t < 40; ++t) {
    std::vector<double> vector = base;
    const double step = 3 * rng.Normal();
    for (size_t i = 0; i < vector.size(); ++i) vector[i] += step * way[i];
    const auto parts = factors.Split(vector);
    factors.Learn(parts, vector);
  }
  std::vector<double> probe = way;

  const auto parts = factors.Split(probe);

  for (double value : probe) CHECK(value == Approx(0).margin(1e-6));
  factors.Join(parts, probe);
  for (size_t i = 0; i < way.size(); ++i) CHECK(probe[i] == Approx(way[i]).margin(1e-9));
}

}  // namespace
}  // namespace evenkeel::algos
