// SPDX-License-Identifier: Apache-2.0
#include "algos/dispatch/static_choice.h"

#include <algorithm>
#include <cstddef>

#include "algos/base/hash.h"
#include "algos/base/rng.h"

namespace evenkeel::algos {

namespace {

bool IsSet(std::span<const uint8_t> mask, int32_t rank) {
  return !mask.empty() && mask[static_cast<size_t>(rank)] != 0;
}

// How little the rule likes that `rank` sends to `to`.
int DistanceOf(int32_t rank, int32_t to, const StaticOptions& options) {
  switch (options.rule) {
    case StaticRule::kAny:
      return 0;
    case StaticRule::kRemote:
      return to == rank ? 1 : 0;
    case StaticRule::kNear:
      break;
  }
  if (to == rank) return 0;
  const auto& hosts = options.host_of_rank;
  return !hosts.empty() && hosts[static_cast<size_t>(to)] == hosts[static_cast<size_t>(rank)] ? 1 : 2;
}

}  // namespace

void ChooseStatically(std::span<const int32_t> slots, const StaticOptions& options, std::span<int32_t> counts,
                      std::span<int32_t> chosen) {
  Rng rng(MixBits(options.seed) ^
          MixBits(static_cast<uint64_t>(options.layer) << 32 | static_cast<uint32_t>(options.expert)));
  const auto rank_of = [&](size_t i) { return slots[i] / options.slots_per_rank; };
  bool all_avoided = true;
  for (size_t i = 0; i < slots.size(); ++i) all_avoided = all_avoided && IsSet(options.avoided, rank_of(i));
  std::ranges::fill(counts, 0);
  for (size_t r = 0; r < chosen.size(); ++r) {
    const int32_t rank = static_cast<int32_t>(r);
    size_t best = slots.size();
    uint64_t num_equal = 0;
    int best_distance = 0;
    const auto is_out = [&](size_t i) { return !all_avoided && IsSet(options.avoided, rank_of(i)); };
    for (size_t i = 0; i < slots.size(); ++i) {
      if (is_out(i)) continue;
      const int distance = DistanceOf(rank, rank_of(i), options);
      const bool is_better =
          best == slots.size() || distance < best_distance || (distance == best_distance && counts[i] < counts[best]);
      if (is_better) {
        best = i;
        best_distance = distance;
        num_equal = 1;
      } else if (distance == best_distance && counts[i] == counts[best]) {
        ++num_equal;
      }
    }
    uint64_t skipped = num_equal > 1 ? rng.Below(num_equal) : 0;
    for (size_t i = best; skipped > 0;) {
      ++i;
      if (is_out(i) || counts[i] != counts[best] || DistanceOf(rank, rank_of(i), options) != best_distance) continue;
      if (--skipped == 0) best = i;
    }
    chosen[r] = static_cast<int32_t>(best);
    if (!IsSet(options.absent, rank)) ++counts[best];
  }
}

}  // namespace evenkeel::algos
