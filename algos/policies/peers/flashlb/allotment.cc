// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/flashlb/allotment.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "algos/base/check.h"

namespace evenkeel::algos::flashlb {

Allotment::Allotment(AllotmentMethod method, std::span<const double> values, int extra_max)
    : method_(method), values_(values.begin(), values.end()) {
  EVENKEEL_CHECK(!values_.empty() || extra_max == 0);
  if (method != AllotmentMethod::kPercentage) Grow(extra_max);
}

double Allotment::KeyOf(uint32_t position, int32_t count) const {
  const double unit = values_[position] / count;
  return method_ == AllotmentMethod::kMaxDelta ? unit / (count + 1) : unit;
}

void Allotment::Grow(int extra_max) {
  const auto is_after = [](const Grant& a, const Grant& b) {
    return a.key != b.key ? a.key < b.key : a.position > b.position;
  };
  std::vector<int32_t> counts(values_.size(), 1);
  std::vector<Grant> heap;
  for (uint32_t i = 0; i < values_.size(); ++i) heap.push_back({KeyOf(i, 1), i});
  std::ranges::make_heap(heap, is_after);
  for (int extra = 0; extra < extra_max; ++extra) {
    std::ranges::pop_heap(heap, is_after);
    grants_.push_back(heap.back());
    const uint32_t position = heap.back().position;
    heap.back().key = KeyOf(position, ++counts[position]);
    std::ranges::push_heap(heap, is_after);
  }
}

void Allotment::Write(int extra, std::span<int32_t> counts) const {
  if (method_ == AllotmentMethod::kPercentage) {
    WriteByPercentage(extra, values_, counts);
    return;
  }
  std::ranges::fill(counts, 1);
  for (int i = 0; i < extra; ++i) ++counts[grants_[static_cast<size_t>(i)].position];
}

// Keys only fall, so that the grants of both together are theirs merged.
int Allotment::ShareOf(int extra, const Allotment& rest) const {
  if (method_ == AllotmentMethod::kPercentage) {
    std::vector<double> values = values_;
    values.insert(values.end(), rest.values_.begin(), rest.values_.end());
    std::vector<int32_t> counts(values.size());
    WriteByPercentage(extra, values, counts);
    const auto end = counts.begin() + static_cast<std::ptrdiff_t>(values_.size());
    return std::accumulate(counts.begin(), end, 0) - static_cast<int>(values_.size());
  }
  size_t mine = 0, theirs = 0;
  while (mine + theirs < static_cast<size_t>(extra)) {
    const bool has_mine = mine < grants_.size(), has_theirs = theirs < rest.grants_.size();
    EVENKEEL_CHECK(has_mine || has_theirs);
    if (has_mine && (!has_theirs || grants_[mine].key >= rest.grants_[theirs].key)) {
      ++mine;
    } else {
      ++theirs;
    }
  }
  return static_cast<int>(mine);
}

void Allotment::WriteByPercentage(int extra, std::span<const double> values, std::span<int32_t> counts) const {
  double sum = 0;
  for (double value : values) sum += value;
  std::vector<double> rest(values.size());
  int left = extra;
  for (size_t i = 0; i < values.size(); ++i) {
    const double quota = values[i] / sum * extra;
    counts[i] = 1 + static_cast<int32_t>(std::floor(quota));
    rest[i] = quota - std::floor(quota);
    left -= counts[i] - 1;
  }
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return rest[a] > rest[b]; });
  for (size_t i = 0; left > 0; --left, ++i) ++counts[order[i % order.size()]];
}

}  // namespace evenkeel::algos::flashlb
