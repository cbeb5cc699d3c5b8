// SPDX-License-Identifier: Apache-2.0
//
// Kernel: the arithmetic of TinyMoE on one core, with results that do not depend on how tokens are batched.
//
// Each output is summed in one fixed order, given by its own row alone: the same row gives the same bits whether it is
// computed alone or among others, in this process or in another, with AVX2 or without.
//
// Threads:   any; no state.
// Requires:  outputs a multiple of 16 (Linear), vectors a multiple of 8; pointers need the alignment of float only.
#pragma once

#include <vector>

namespace evenkeel::engine {

// Rows of activations: `rows` vectors, each `stride` floats after the one before it.
struct Rows {
  const float* data = nullptr;
  int rows = 0;
  int stride = 0;
};

inline constexpr int kPanelOutputs = 16;

// A weight matrix [out, in], row-major, in the order in which Linear reads it: [out / 16][in][16].
std::vector<float> ToPanels(const std::vector<float>& matrix, int out, int in);

// y[row] = W x[row], row r at y + r * y_stride.
void Linear(const float* panels, int in, int out, Rows x, float* y, int y_stride);

// y[i] = x[i] * rsqrt(mean(x^2) + eps) * weight[i].
void RmsNorm(const float* x, const float* weight, int size, float eps, float* y);

// gate[i] = silu(gate[i]) * up[i].
void SiluMultiply(float* gate, const float* up, int size);

// One query of one head against the keys and values of positions 0 to `position`.
struct Attention {
  const float* query = nullptr;   // [head_dim]
  const float* keys = nullptr;    // [head_dim][capacity]
  const float* values = nullptr;  // [capacity][head_dim]
  int head_dim = 0;
  int capacity = 0;  // of positions; a multiple of 8
  int position = 0;
  float* scores = nullptr;  // scratch, [capacity]
};
// out[head_dim] = softmax(query . keys / sqrt(head_dim)) values.
void Attend(const Attention& attention, float* out);

// The exponential that the kernels use.
float Exponential(float x);

// The same, compiled for any CPU: what the functions above are where there is no AVX2.
namespace portable {
void Linear(const float* panels, int in, int out, Rows x, float* y, int y_stride);
void SiluMultiply(float* gate, const float* up, int size);
void Attend(const Attention& attention, float* out);
}  // namespace portable

}  // namespace evenkeel::engine
