// SPDX-License-Identifier: Apache-2.0
//
// Failure: the failure that an engine was told to take, so that others' behaviour can be tested.
//
// Threads:   any.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace evenkeel::engine {

class Failure {
 public:
  enum class Kind {
    kNone,
    kExit,   // the process ends at once, in the middle of a step
    kHang,   // nothing moves any more, in the middle of a step
    kSlow,   // each answer to others takes 100 ms longer
    kZeros,  // answers to others are zeros
    kCut,    // all sockets are closed for good
  };

  Failure(Kind kind, uint64_t after_steps) : kind_(kind), after_steps_(after_steps) {}
  static absl::StatusOr<Kind> Parse(const std::string& name);

  // Called after each step with the number of steps done.
  void StepsDone(uint64_t steps) {
    if (kind_ != Kind::kNone && steps >= after_steps_) due_ = true;
  }
  // To be asked in the middle of things. kExit and kHang do not come back.
  Kind Take();

 private:
  const Kind kind_;
  const uint64_t after_steps_;
  std::atomic<bool> due_ = false;
};

}  // namespace evenkeel::engine
