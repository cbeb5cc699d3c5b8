// SPDX-License-Identifier: Apache-2.0
//
// Lanes: a few floats that are computed with together. The compiler makes of them what the processor has; the
// results are the same everywhere.
#pragma once

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

inline Lanes MaxOf(Lanes a, Lanes b) { return a > b ? a : b; }
inline Lanes MinOf(Lanes a, Lanes b) { return a < b ? a : b; }
inline Lanes AbsOf(Lanes a) { return MaxOf(a, -a); }

}  // namespace evenkeel::algos::flashlb
