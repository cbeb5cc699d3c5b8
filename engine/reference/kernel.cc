// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/kernel.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace evenkeel::engine {
namespace {

#define EVENKEEL_INLINE inline __attribute__((always_inline))

// Eight floats, loaded and stored at any float's address. Passed by reference: their ABI differs between targets.
using Vec = float __attribute__((vector_size(32)));
using Packed = float __attribute__((vector_size(32), aligned(4), may_alias));
using Ints = int32_t __attribute__((vector_size(32)));
constexpr int kLanes = 8;

EVENKEEL_INLINE const Packed& At(const float* p) { return *reinterpret_cast<const Packed*>(p); }
EVENKEEL_INLINE Packed& At(float* p) { return *reinterpret_cast<Packed*>(p); }

EVENKEEL_INLINE float Sum(const Vec& v) { return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7])); }

// e^x by 2^n * e^r with |r| <= ln(2)/2, the latter as a polynomial; relative error below 2e-7.
EVENKEEL_INLINE void ExpInPlace(Vec& x) {
  const Vec high = Vec{} + 88.0f, low = Vec{} - 87.0f;
  x = x > high ? high : x;
  x = x < low ? low : x;
  const Vec shifter = Vec{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  const Vec n = (x * 1.44269504f + shifter) - shifter;
  const Vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * (r * r) + r) + 1.0f;
  const Ints bits = (__builtin_convertvector(n, Ints) + 127) << 23;
  Vec scale;
  std::memcpy(&scale, &bits, sizeof(scale));
  x = p * scale;
}

template <int kRows>
EVENKEEL_INLINE void Tile(const float* panel, int in, const float* x, ptrdiff_t x_stride, float* y,
                          ptrdiff_t y_stride) {
  Vec sums[kRows][2] = {};
  for (int i = 0; i < in; ++i) {
    const Vec w0 = At(panel + ptrdiff_t{i} * kPanelOutputs);
    const Vec w1 = At(panel + ptrdiff_t{i} * kPanelOutputs + kLanes);
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
      const float value = x[row * x_stride + i];
      sums[row][0] += value * w0;
      sums[row][1] += value * w1;
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < kRows; ++row) {
    At(y + row * y_stride) = sums[row][0];
    At(y + row * y_stride + kLanes) = sums[row][1];
  }
}

template <int kRows>
EVENKEEL_INLINE void LinearBody(const float* panels, int in, int out, Rows x, float* y, int y_stride) {
  for (int o = 0; o < out; o += kPanelOutputs) {
    const float* panel = panels + ptrdiff_t{o} * in;
    int row = 0;
    for (; row + kRows <= x.rows; row += kRows) {
      Tile<kRows>(panel, in, x.data + ptrdiff_t{row} * x.stride, x.stride, y + ptrdiff_t{row} * y_stride + o, y_stride);
    }
    for (; row < x.rows; ++row) {
      Tile<1>(panel, in, x.data + ptrdiff_t{row} * x.stride, x.stride, y + ptrdiff_t{row} * y_stride + o, y_stride);
    }
  }
}

EVENKEEL_INLINE void SiluBody(float* gate, const float* up, int size) {
  for (int i = 0; i < size; i += kLanes) {
    const Vec x = At(gate + i);
    Vec e = -x;
    ExpInPlace(e);
    At(gate + i) = x / (e + 1.0f) * At(up + i);
  }
}

EVENKEEL_INLINE void AttendBody(const Attention& a, float* out) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(a.head_dim));
  const Ints lane = {0, 1, 2, 3, 4, 5, 6, 7};
  const Vec none = Vec{} - 1e30f;
  Vec top = none;
  for (int first = 0; first <= a.position; first += kLanes) {
    Vec dot = {};
    for (int d = 0; d < a.head_dim; ++d) dot += a.query[d] * At(a.keys + ptrdiff_t{d} * a.capacity + first);
    dot = lane <= a.position - first ? dot * scale : none;
    top = dot > top ? dot : top;
    At(a.scores + first) = dot;
  }
  float highest = top[0];
  for (int i = 1; i < kLanes; ++i) highest = std::max(highest, top[i]);
  Vec total = {};
  for (int first = 0; first <= a.position; first += kLanes) {
    Vec weight = At(a.scores + first) - highest;
    ExpInPlace(weight);
    weight = lane <= a.position - first ? weight : Vec{};
    total += weight;
    At(a.scores + first) = weight;
  }
  const float norm = 1.0f / Sum(total);
  for (int d = 0; d < a.head_dim; d += kLanes) {
    Vec sum = {};
    for (int p = 0; p <= a.position; ++p) sum += a.scores[p] * At(a.values + ptrdiff_t{p} * a.head_dim + d);
    At(out + d) = sum * norm;
  }
}

#if defined(__x86_64__)
// Without fused multiply-add on purpose: then both paths give the same bits.
__attribute__((target("avx2"))) void LinearAvx2(const float* panels, int in, int out, Rows x, float* y, int y_stride) {
  LinearBody<4>(panels, in, out, x, y, y_stride);
}
__attribute__((target("avx2"))) void SiluAvx2(float* gate, const float* up, int size) { SiluBody(gate, up, size); }
__attribute__((target("avx2"))) void AttendAvx2(const Attention& a, float* out) { AttendBody(a, out); }

bool HasAvx2() {
  static const bool has = __builtin_cpu_supports("avx2") != 0;
  return has;
}
#endif

}  // namespace

namespace portable {
void Linear(const float* panels, int in, int out, Rows x, float* y, int y_stride) {
  LinearBody<2>(panels, in, out, x, y, y_stride);
}
void SiluMultiply(float* gate, const float* up, int size) { SiluBody(gate, up, size); }
void Attend(const Attention& attention, float* out) { AttendBody(attention, out); }
}  // namespace portable

std::vector<float> ToPanels(const std::vector<float>& matrix, int out, int in) {
  std::vector<float> panels(matrix.size());
  size_t at = 0;
  for (int o = 0; o < out; o += kPanelOutputs) {
    for (int i = 0; i < in; ++i) {
      for (int lane = 0; lane < kPanelOutputs; ++lane) {
        panels[at++] = matrix[static_cast<size_t>(o + lane) * static_cast<size_t>(in) + static_cast<size_t>(i)];
      }
    }
  }
  return panels;
}

void Linear(const float* panels, int in, int out, Rows x, float* y, int y_stride) {
#if defined(__x86_64__)
  if (HasAvx2()) return LinearAvx2(panels, in, out, x, y, y_stride);
#endif
  portable::Linear(panels, in, out, x, y, y_stride);
}

void RmsNorm(const float* x, const float* weight, int size, float eps, float* y) {
  float sums[kLanes] = {};
  for (int i = 0; i < size; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) sums[lane] += x[i + lane] * x[i + lane];
  }
  float sum = 0;
  for (float part : sums) sum += part;
  const float scale = 1.0f / std::sqrt(sum / static_cast<float>(size) + eps);
  for (int i = 0; i < size; ++i) y[i] = x[i] * scale * weight[i];
}

void SiluMultiply(float* gate, const float* up, int size) {
#if defined(__x86_64__)
  if (HasAvx2()) return SiluAvx2(gate, up, size);
#endif
  portable::SiluMultiply(gate, up, size);
}

void Attend(const Attention& attention, float* out) {
#if defined(__x86_64__)
  if (HasAvx2()) return AttendAvx2(attention, out);
#endif
  portable::Attend(attention, out);
}

float Exponential(float x) {
  Vec v = Vec{} + x;
  ExpInPlace(v);
  return v[0];
}

}  // namespace evenkeel::engine
