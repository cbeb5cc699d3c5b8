// SPDX-License-Identifier: Apache-2.0
//
// MovePace: how fast experts may move, beside the group's limits.
//
// Plain values.
#pragma once

namespace evenkeel::controller {

enum class MovePace {
  kFree,    // as the settings say
  kSlow,    // one layer at a time, one move into a rank
  kPaused,  // no wave begins; those under way end
};

constexpr const char* NameOf(MovePace pace) {
  switch (pace) {
    case MovePace::kFree:
      return "free";
    case MovePace::kSlow:
      return "slow";
    case MovePace::kPaused:
      return "paused";
  }
  return "?";
}

}  // namespace evenkeel::controller
