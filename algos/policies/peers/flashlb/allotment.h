// SPDX-License-Identifier: Apache-2.0
//
// Allotment: how many replicas each expert of a group gets when the group has k slots more than experts, for every
// k up to a largest one.
//
// The value of an expert is what it may weigh: mean + z x deviation of its heat.
//
// Order:     ties go to the lowest position in the group.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace evenkeel::algos::flashlb {

enum class AllotmentMethod {
  kMinMax,      // each further replica to the largest value per replica
  kMaxDelta,    // to the largest value / (replicas x (replicas + 1))
  kPercentage,  // extra slots by value, largest remainders first
};

class Allotment {
 public:
  // `values` in the group's order. Requires: at least one; extra_max 0 where there is none.
  Allotment(AllotmentMethod method, std::span<const double> values, int extra_max);

  // Replicas of each position with `extra` slots more than experts.
  void Write(int extra, std::span<int32_t> counts) const;

  // How many of `extra` slots for this group and `rest` together, in that order, come to this one.
  int ShareOf(int extra, const Allotment& rest) const;

 private:
  struct Grant {
    double key = 0;  // at the time
    uint32_t position = 0;
  };

  double KeyOf(uint32_t position, int32_t count) const;
  void Grow(int extra_max);
  void WriteByPercentage(int extra, std::span<const double> values, std::span<int32_t> counts) const;

  const AllotmentMethod method_;
  const std::vector<double> values_;
  std::vector<Grant> grants_;  // of the first extra slot, the second, ...; not by percentage
};

}  // namespace evenkeel::algos::flashlb
