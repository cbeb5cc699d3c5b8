// SPDX-License-Identifier: Apache-2.0
//
// Planning input: loads for the benchmarks of planning: recorded ones where a file is given, else a seeded
// log-normal (sigma 1).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "algos/base/rng.h"
#include "algos/problem.h"
#include "cli/files/loads.h"

namespace evenkeel::bench {

struct PlanningInput {
  std::string name;
  std::vector<algos::Load> windows;  // at least two
};

// The file named by the first argument, or 12 windows of 58 layers x 256 experts that drift apart slowly.
inline PlanningInput PlanningInputOf(int argc, char** argv) {
  if (argc > 1) {
    absl::StatusOr<std::vector<algos::Load>> recorded = cli::ReadLoads(argv[1]);
    if (recorded.ok() && recorded->size() >= 2) return {argv[1], *std::move(recorded)};
    std::fprintf(stderr, "%s\n",
                 recorded.ok() ? "at least two windows are needed" : recorded.status().ToString().c_str());
    std::exit(2);
  }
  PlanningInput input{"log-normal, sigma 1, seed 1", {}};
  Rng rng(1);
  std::vector<double> logs(58 * 256);
  for (double& value : logs) value = rng.Normal();
  for (int w = 0; w < 12; ++w) {
    algos::Load load{.num_layers = 58, .num_experts = 256};
    for (double& value : logs) {
      value = 0.95 * value + 0.3122 * rng.Normal();  // keeps the variance at 1
      load.tokens.push_back(static_cast<uint64_t>(std::exp(value) * 10000));
    }
    input.windows.push_back(load);
  }
  return input;
}

}  // namespace evenkeel::bench
