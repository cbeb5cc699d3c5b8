// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/kernel.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/base/rng.h"

namespace evenkeel::engine {
namespace {

std::vector<float> Values(Rng& rng, size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(rng.Normal());
  return values;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST_CASE("a linear layer gives each row the same bits alone, in a batch, and on any CPU", "[kernel]") {
  const uint64_t seed = GENERATE(range(uint64_t{1}, uint64_t{9}));
  CAPTURE(seed);
  Rng rng(seed);
  const int in = static_cast<int>(rng.Between(1, 130)), out = 16 * static_cast<int>(rng.Between(1, 9));
  const int rows = static_cast<int>(rng.Between(1, 19));
  const std::vector<float> w = Values(rng, static_cast<size_t>(in * out));
  const std::vector<float> x = Values(rng, static_cast<size_t>(in * rows));
  const std::vector<float> panels = ToPanels(w, out, in);
  std::vector<float> batched(static_cast<size_t>(rows * out)), alone(batched), portable(batched);
  Linear(panels.data(), in, out, {x.data(), rows, in}, batched.data(), out);
  portable::Linear(panels.data(), in, out, {x.data(), rows, in}, portable.data(), out);
  for (int r = 0; r < rows; ++r)
    Linear(panels.data(), in, out, {x.data() + r * in, 1, in}, &alone[static_cast<size_t>(r * out)], out);
  CHECK(SameBits(batched, alone));
  CHECK(SameBits(batched, portable));
  for (int r = 0; r < rows; ++r) {
    for (int o = 0; o < out; ++o) {
      double sum = 0;
      for (int i = 0; i < in; ++i) {
        sum += double{w[static_cast<size_t>(o * in + i)]} * double{x[static_cast<size_t>(r * in + i)]};
      }
      REQUIRE(std::abs(batched[static_cast<size_t>(r * out + o)] - sum) < 1e-4);
    }
  }
}

TEST_CASE("attention is the softmax-weighted sum of the values up to the position", "[kernel]") {
  const uint64_t seed = GENERATE(range(uint64_t{1}, uint64_t{9}));
  CAPTURE(seed);
  Rng rng(seed);
  constexpr int kDim = 32, kCapacity = 64;
  const int position = static_cast<int>(rng.Below(kCapacity));
  const std::vector<float> q = Values(rng, kDim);
  std::vector<float> keys = Values(rng, kDim * kCapacity), values = Values(rng, kDim * kCapacity), scores(kCapacity);
  Attention attention{q.data(), keys.data(), values.data(), kDim, kCapacity, position, scores.data()};
  std::vector<float> out(kDim), portable(kDim), later(kDim);
  Attend(attention, out.data());
  portable::Attend(attention, portable.data());
  CHECK(SameBits(out, portable));
  for (int p = position + 1; p < kCapacity; ++p) keys[static_cast<size_t>(3 * kCapacity + p)] = 1e6f;
  Attend(attention, later.data());
  CHECK(SameBits(out, later));
  std::vector<double> weights(static_cast<size_t>(position) + 1);
  double sum = 0;
  for (int p = 0; p <= position; ++p) {
    double dot = 0;
    for (int d = 0; d < kDim; ++d)
      dot += double{q[static_cast<size_t>(d)]} * double{keys[static_cast<size_t>(d * kCapacity + p)]};
    sum += weights[static_cast<size_t>(p)] = std::exp(dot / std::sqrt(32.0));
  }
  for (int d = 0; d < kDim; ++d) {
    double expected = 0;
    for (int p = 0; p <= position; ++p) {
      expected += weights[static_cast<size_t>(p)] / sum * double{values[static_cast<size_t>(p * kDim + d)]};
    }
    REQUIRE(std::abs(out[static_cast<size_t>(d)] - expected) < 1e-4);
  }
}

TEST_CASE("the exponential is right to 3e-7 and SiLU and RMS norm follow their formulas", "[kernel]") {
  for (float x = -80; x < 80; x += 0.37f) {
    REQUIRE(std::abs(double{Exponential(x)} / std::exp(double{x}) - 1) < 3e-7);
  }
  CHECK(Exponential(-1000) < 1e-37f);
  Rng rng(7);
  const std::vector<float> x = Values(rng, 128), y = Values(rng, 128);
  std::vector<float> silu = x, portable = x, normed(128);
  SiluMultiply(silu.data(), y.data(), 128);
  portable::SiluMultiply(portable.data(), y.data(), 128);
  CHECK(SameBits(silu, portable));
  RmsNorm(x.data(), y.data(), 128, 1e-5f, normed.data());
  double squares = 0;
  for (float value : x) squares += double{value} * double{value};
  for (size_t i = 0; i < 128; ++i) {
    REQUIRE(std::abs(silu[i] - double{x[i]} / (1 + std::exp(-double{x[i]})) * double{y[i]}) < 1e-5);
    REQUIRE(std::abs(normed[i] - double{x[i]} / std::sqrt(squares / 128 + 1e-5) * double{y[i]}) < 1e-5);
  }
}

}  // namespace
}  // namespace evenkeel::engine
