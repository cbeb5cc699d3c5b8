// SPDX-License-Identifier: Apache-2.0
//
// BusySteps: steps of a CUDA graph that keep a GPU busy, once with arithmetic, once with reading, without CUDA headers.
//
// Failures of CUDA end the process with what failed.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace evenkeel::gpu {

class BusySteps {
 public:
  // `kind`: compute or memory; each step takes about `milliseconds` of GPU 0 alone.
  BusySteps(const std::string& kind, double milliseconds);
  ~BusySteps();

  // Milliseconds of each of `count` steps, one after the other, from launch to end as the host sees it.
  std::vector<double> Run(int count);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace evenkeel::gpu
