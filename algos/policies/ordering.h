// SPDX-License-Identifier: Apache-2.0
//
// Ordering: the two structures behind fast greedy policies: a tree that knows its least key, and a stable sort
// of short keys.
//
// Keys are integers that carry the id in their low bits, so that ties go to the lowest id by themselves.
// Storage is kept from one use to the next.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "algos/base/check.h"

namespace evenkeel::algos {

// The least of n keys, each of which may change: Update is one pass from leaf to root.
class MinTree {
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

  uint64_t least() const { return nodes_[1]; }
  // Where it is; the lowest index among equal ones.
  size_t least_idx() const {
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

// Sorts items by their upper 32 bits, ascending; equal ones keep their order.
class HighWordSorter {
 public:
  void Sort(std::vector<uint64_t>& items) {
    if (items.size() <= kInsertionMax) {
      InsertionSort(items);
      return;
    }
    CountDigits(items);
    spare_.resize(items.size());
    for (size_t pass = 0; pass < counts_.size(); ++pass) {
      const size_t shift = 32 + 8 * pass;
      auto& ends = counts_[pass];
      if (ends[items.front() >> shift & 0xFF] == items.size()) continue;  // one digit in all
      uint32_t sum = 0;
      for (uint32_t& end : ends) {
        const uint32_t count = end;
        end = sum;
        sum += count;
      }
      for (uint64_t item : items) spare_[ends[item >> shift & 0xFF]++] = item;
      items.swap(spare_);
    }
  }

 private:
  static constexpr size_t kInsertionMax = 24;

  static void InsertionSort(std::vector<uint64_t>& items) {
    for (size_t i = 1; i < items.size(); ++i) {
      const uint64_t item = items[i];
      size_t at = i;
      for (; at > 0 && items[at - 1] >> 32 > item >> 32; --at) items[at] = items[at - 1];
      items[at] = item;
    }
  }

  void CountDigits(const std::vector<uint64_t>& items) {
    for (auto& digits : counts_) digits.fill(0);
    for (uint64_t item : items) {
      for (size_t pass = 0; pass < counts_.size(); ++pass) ++counts_[pass][item >> (32 + 8 * pass) & 0xFF];
    }
  }

  std::array<std::array<uint32_t, 256>, 4> counts_;
  std::vector<uint64_t> spare_;
};

}  // namespace evenkeel::algos
