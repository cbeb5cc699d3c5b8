// SPDX-License-Identifier: Apache-2.0
//
// Planning input: loads for the benchmarks of planning: recorded ones where a file is given, else a seeded
// log-normal (sigma 1).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "algos/base/rng.h"
#include "algos/problem.h"

namespace evenkeel::bench {

struct PlanningInput {
  std::string name;
  std::vector<algos::Load> windows;  // at least two
};

// A NumPy 1.0 file of little-endian uint32, C order, [windows, layers, experts]; no windows if it is not one.
inline PlanningInput ReadCounts(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  PlanningInput input{path, {}};
  const size_t shape_at = bytes.find("'shape': (");
  if (bytes.compare(0, 6, "\x93NUMPY") != 0 || bytes.find("'<u4'") == std::string::npos ||
      shape_at == std::string::npos) {
    return input;
  }
  int sizes[3] = {0, 0, 0};
  const char* at = bytes.c_str() + shape_at + 10;
  for (int& size : sizes) {
    char* end = nullptr;
    size = static_cast<int>(std::strtol(at, &end, 10));
    at = end + 1;
  }
  const size_t header = 10 + static_cast<size_t>(static_cast<unsigned char>(bytes[8])) +
                        256 * static_cast<size_t>(static_cast<unsigned char>(bytes[9]));
  const size_t count = static_cast<size_t>(sizes[1]) * static_cast<size_t>(sizes[2]);
  if (bytes.size() != header + 4 * count * static_cast<size_t>(sizes[0])) return input;
  for (int w = 0; w < sizes[0]; ++w) {
    algos::Load load{.num_layers = sizes[1], .num_experts = sizes[2]};
    for (size_t i = 0; i < count; ++i) {
      uint32_t value = 0;
      std::memcpy(&value, bytes.data() + header + 4 * (static_cast<size_t>(w) * count + i), 4);
      load.tokens.push_back(value);
    }
    input.windows.push_back(load);
  }
  return input;
}

// The file named by the first argument, or 12 windows of 58 layers x 256 experts that drift apart slowly.
inline PlanningInput PlanningInputOf(int argc, char** argv) {
  if (argc > 1) {
    PlanningInput recorded = ReadCounts(argv[1]);
    if (recorded.windows.size() >= 2) return recorded;
    std::fprintf(stderr, "%s: not an array of uint32 [windows, layers, experts]\n", argv[1]);
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
