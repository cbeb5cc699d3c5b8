// SPDX-License-Identifier: Apache-2.0
//
// DoubleOrdering: ordering.h for weights that need all 64 bits of a key, so that no id fits beside them: keys for
// MinTree, which tells where the least one is, and a stable sort, heaviest first.
//
// Weights are not negative and not NaN; their bits then compare as they do. Storage is kept from one use to the next.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "algos/policies/ordering.h"

namespace evenkeel::algos {

inline uint64_t LightestKey(double weight) { return std::bit_cast<uint64_t>(weight); }
inline uint64_t HeaviestKey(double weight) { return ~std::bit_cast<uint64_t>(weight); }

// Indices of weights, heaviest first, equal ones by index.
class HeaviestFirstSorter {
 public:
  // The result stays until the next call.
  std::span<const uint32_t> Sort(std::span<const double> weights) {
    items_.resize(weights.size());
    for (size_t i = 0; i < weights.size(); ++i) items_[i] = (HeaviestKey(weights[i]) & ~kLowWord) | i;
    sorter_.Sort(items_);
    order_.resize(weights.size());
    for (size_t i = 0; i < weights.size(); ++i) order_[i] = static_cast<uint32_t>(items_[i] & kLowWord);
    SettleLowWords(weights);
    return order_;
  }

 private:
  static constexpr uint64_t kLowWord = 0xFFFFFFFFu;

  // Items of one upper word lie side by side by now.
  void SettleLowWords(std::span<const double> weights) {
    for (size_t i = 1; i < order_.size(); ++i) {
      const uint32_t item = order_[i];
      size_t at = i;
      for (; at > 0 && weights[order_[at - 1]] < weights[item]; --at) order_[at] = order_[at - 1];
      order_[at] = item;
    }
  }

  std::vector<uint64_t> items_;
  std::vector<uint32_t> order_;
  HighWordSorter sorter_;
};

}  // namespace evenkeel::algos
