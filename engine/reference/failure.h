// SPDX-License-Identifier: Apache-2.0
//
// Failure: the failure that an engine was told to take, so that others' behaviour can be tested.
//
// A pause is a silence that was announced.
//
// Threads:   any.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace evenkeel::engine {

class Failure {
 public:
  enum class Kind {
    kNone,
    kExit,     // the process ends at once, in the middle of a step
    kHang,     // nothing moves any more, in the middle of a step
    kSlow,     // each answer to others takes 100 ms longer
    kZeros,    // answers to others are zeros
    kCut,      // all sockets are closed for good
    kSilence,  // nothing moves for a while, in the middle of a step, once
    kPause,    // the same, announced before
  };
  struct Silence {
    absl::Duration length;
    std::function<void(absl::Duration)> announce;
  };

  Failure(Kind kind, uint64_t after_steps, Silence silence = {})
      : kind_(kind), after_steps_(after_steps), silence_(std::move(silence)) {}
  static absl::StatusOr<Kind> Parse(const std::string& name);

  // Called after each step with the number of steps done.
  void StepsDone(uint64_t steps) {
    if (kind_ != Kind::kNone && steps >= after_steps_) due_ = true;
  }
  // To be asked in the middle of things. kExit and kHang do not come back, kSilence and kPause only when they are over.
  Kind Take();

 private:
  void BeSilent();

  const Kind kind_;
  const uint64_t after_steps_;
  const Silence silence_;
  std::atomic<bool> due_ = false;
  std::atomic<int64_t> silent_until_ns_ = 0;  // 0: not yet begun
};

}  // namespace evenkeel::engine
