// SPDX-License-Identifier: Apache-2.0
//
// Recorded: small timelines for the tests of replays.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "algos/base/rng.h"
#include "algos/problem.h"

namespace evenkeel::algos {

// Experts with log-normal popularity that drifts from window to window.
inline std::vector<Load> DriftingTimeline(int num_windows, int num_layers, int num_experts, uint64_t seed) {
  Rng rng(seed);
  std::vector<double> logs(static_cast<size_t>(num_layers) * static_cast<size_t>(num_experts));
  for (double& value : logs) value = rng.Normal();
  std::vector<Load> timeline;
  for (int t = 0; t < num_windows; ++t) {
    Load load{.num_layers = num_layers, .num_experts = num_experts};
    for (double& value : logs) {
      value = 0.98 * value + 0.2 * rng.Normal();
      load.tokens.push_back(static_cast<uint64_t>(std::exp(value) * 1000));
    }
    timeline.push_back(load);
  }
  return timeline;
}

}  // namespace evenkeel::algos
