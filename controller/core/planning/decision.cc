// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/decision.h"

#include <cstddef>

namespace evenkeel::controller {

const char* NameOf(DecisionReason reason) {
  static constexpr const char* kNames[kNumDecisionReasons] = {
      "acts",  "balanced",   "steady",       "resting",  "no moves left", "too little load",
      "stays", "small gain", "does not pay", "conflict", "behind others", "frozen"};
  return kNames[static_cast<size_t>(reason)];
}

}  // namespace evenkeel::controller
