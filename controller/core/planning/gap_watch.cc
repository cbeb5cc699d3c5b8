// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/gap_watch.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"

namespace evenkeel::controller {

GapWatch::Change GapWatch::Take(const std::vector<Sample>& layers) {
  if (layers.empty()) return Change::kNone;
  double realised = 0, expected = 0;
  for (const Sample& layer : layers) {
    realised += layer.realised;
    expected += layer.expected;
  }
  realised /= static_cast<double>(layers.size());
  expected /= static_cast<double>(layers.size());
  const bool before = !text_.empty();
  if (std::abs(realised - expected) <= kGapMax) {
    num_windows_ = 0;
    text_.clear();
    return before ? Change::kEnded : Change::kNone;
  }
  if (++num_windows_ < kWindowsLasting) return Change::kNone;
  const Sample& worst = *std::ranges::max_element(
      layers, {}, [](const Sample& layer) { return std::abs(layer.realised - layer.expected); });
  text_ = absl::StrFormat(
      "realised imbalance is %.3f where the maps in force should give %.3f, for %d windows; worst is layer %d with "
      "%.3f "
      "against %.3f: do the engines route by the maps?",
      realised, expected, num_windows_, worst.layer.value(), worst.realised, worst.expected);
  return before ? Change::kNone : Change::kBegan;
}

}  // namespace evenkeel::controller
