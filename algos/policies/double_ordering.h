// SPDX-License-Identifier: Apache-2.0
//
// DoubleOrdering: ordering.h for weights that need all 64 bits of a key, so that no id fits beside them: a tree
// that knows where its least key is, and a stable sort, heaviest first.
//
// Weights are not negative and not NaN; their bits then compare as they do. Storage is kept from one use to the next.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "algos/base/check.h"
#include "algos/policies/ordering.h"

namespace evenkeel::algos {

inline uint64_t LightestKey(double weight) { return std::bit_cast<uint64_t>(weight); }
inline uint64_t HeaviestKey(double weight) { return ~std::bit_cast<uint64_t>(weight); }

// Which of n keys is least, the lowest index among equal ones; each may change.
class ArgminTree {
 public:
  static constexpr uint64_t kAbsent = std::numeric_limits<uint64_t>::max();

  // `key_of(i)` for every i below `num_keys`. Requires: num_keys > 0.
  template <typename KeyOf>
  void Reset(size_t num_keys, KeyOf key_of) {
    EVENKEEL_CHECK(num_keys > 0);
    leaves_ = std::bit_ceil(num_keys);
    nodes_.resize(2 * leaves_);
    for (size_t i = 0; i < num_keys; ++i) nodes_[leaves_ + i] = key_of(i);
    std::fill(nodes_.begin() + static_cast<std::ptrdiff_t>(leaves_ + num_keys), nodes_.end(), kAbsent);
    for (size_t i = leaves_ - 1; i > 0; --i) nodes_[i] = std::min(nodes_[2 * i], nodes_[2 * i + 1]);
  }

  size_t least() const {
    size_t at = 1;
    while (at < leaves_) at = 2 * at + (nodes_[2 * at + 1] < nodes_[2 * at] ? 1 : 0);
    return at - leaves_;
  }

  uint64_t key(size_t i) const { return nodes_[leaves_ + i]; }

  void Update(size_t i, uint64_t key) {
    size_t at = leaves_ + i;
    nodes_[at] = key;
    while (at > 1) {
      key = std::min(key, nodes_[at ^ 1]);
      at >>= 1;
      nodes_[at] = key;
    }
  }

 private:
  size_t leaves_ = 1;
  std::vector<uint64_t> nodes_;  // [2 * leaves_], root at 1
};

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
