// SPDX-License-Identifier: Apache-2.0
//
// Multinomial: exact random draws of how many of n tokens each of several bins gets, in time that does not grow
// with n.
#pragma once

#include <cstdint>
#include <span>

#include "algos/base/rng.h"

namespace evenkeel::algos {

// Successes among `n` trials of probability `p`. Requires: 0 <= p <= 1. By inversion where few are expected, else by
// transformed rejection with squeeze (Hoermann 1993).
uint64_t DrawBinomial(uint64_t n, double p, Rng& rng);

// Requires: weights finite, not negative, not all 0; counts as long as weights.
void DrawMultinomial(uint64_t n, std::span<const double> weights, std::span<uint64_t> counts, Rng& rng);

}  // namespace evenkeel::algos
