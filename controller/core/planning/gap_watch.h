// SPDX-License-Identifier: Apache-2.0
//
// GapWatch: whether ranks are loaded as the maps in force say they should be (docs/protocol.md, rule 31).
//
// A window's realised imbalance is compared with what its own tokens should have cost under the maps in force, so a load
// that shifts is no gap; an engine that does not follow the shares is.
//
// Threads:   none. Owned by Group.
#pragma once

#include <string>
#include <vector>

#include "algos/base/ids.h"

namespace evenkeel::controller {

class GapWatch {
 public:
  static constexpr double kGapMax = 0.1;      // of imbalances, means over layers
  static constexpr int kWindowsLasting = 10;  // in a row

  // One layer in one window.
  struct Sample {
    LayerId layer;
    double realised = 0;
    double expected = 0;
  };
  enum class Change { kNone, kBegan, kEnded };
  // Takes a window in; layers with too little load to tell are left out, and a window without any changes nothing.
  Change Take(const std::vector<Sample>& layers);

  // What lasts, in words; empty: nothing.
  const std::string& text() const { return text_; }

 private:
  int num_windows_ = 0;  // in a row, up to the newest
  std::string text_;
};

}  // namespace evenkeel::controller
