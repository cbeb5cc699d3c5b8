// SPDX-License-Identifier: Apache-2.0
//
// Lanes: four floats that are computed with together. All operations are exactly rounded: results are the same
// everywhere, whatever the processor has for them.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>

namespace evenkeel::algos::flashlb {

inline constexpr size_t kLanes = 4;
using Lanes __attribute__((vector_size(kLanes * sizeof(float)))) = float;

inline Lanes LoadLanes(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}

inline void StoreLanes(float* to, Lanes lanes) { std::memcpy(to, &lanes, sizeof(lanes)); }

inline Lanes SpreadLanes(float value) { return Lanes{value, value, value, value}; }

#ifdef __SSE2__
// Of two equal or unordered ones the second, as below.
inline Lanes MaxOf(Lanes a, Lanes b) { return __builtin_ia32_maxps(a, b); }
inline Lanes MinOf(Lanes a, Lanes b) { return __builtin_ia32_minps(a, b); }
inline Lanes RootOf(Lanes a) { return __builtin_ia32_sqrtps(a); }
#else
inline Lanes MaxOf(Lanes a, Lanes b) { return a > b ? a : b; }
inline Lanes MinOf(Lanes a, Lanes b) { return a < b ? a : b; }
inline Lanes RootOf(Lanes a) { return Lanes{std::sqrt(a[0]), std::sqrt(a[1]), std::sqrt(a[2]), std::sqrt(a[3])}; }
#endif

}  // namespace evenkeel::algos::flashlb
