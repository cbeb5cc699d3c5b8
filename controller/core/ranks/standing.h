// SPDX-License-Identifier: Apache-2.0
//
// Standing: how a rank stands in its group, as the controller believes.
//
// Threads:   plain values.
#pragma once

#include <cstdint>

namespace evenkeel::controller {

enum class Standing : uint32_t {
  kAbsent = 0,    // never here
  kJoining = 1,   // in the view; holds no live slot yet
  kServing = 2,   // in the view
  kDraining = 3,  // in the view; maps are being emptied of it
  kLost = 4,      // expelled
  kLeft = 5,      // drained
};

constexpr bool IsInView(Standing standing) {
  return standing == Standing::kJoining || standing == Standing::kServing || standing == Standing::kDraining;
}

}  // namespace evenkeel::controller
