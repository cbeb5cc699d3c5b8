// SPDX-License-Identifier: Apache-2.0
//
// StepTimes: how long the steps of a group's engines take, as their agents measure it.
//
// A sample is the mean over one report interval of one rank; the newest kKept of all ranks count.
//
// Threads:   none. Owned by Group.
#pragma once

#include <cstddef>
#include <vector>

#include "absl/time/time.h"

namespace evenkeel::controller {

class StepTimes {
 public:
  static constexpr size_t kKept = 1024;

  // Zero: nothing was measured; not counted.
  void Add(absl::Duration mean_step_time);

  // The smallest sample that at least 99 % do not exceed; zero where there is none.
  absl::Duration P99() const;

 private:
  std::vector<absl::Duration> samples_;  // a ring once there are kKept
  size_t next_ = 0;
};

}  // namespace evenkeel::controller
