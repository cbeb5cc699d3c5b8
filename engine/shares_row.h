// SPDX-License-Identifier: Apache-2.0
//
// SharesRow: unequal shares as repeated entries, for engines that take entry (index modulo count).
//
// Private to the library. No exception leaves it; it takes no memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace evenkeel::engine {

inline constexpr uint64_t kShareUnits = uint64_t{1} << 32;

// The replicas of one expert within a table.
struct Replicas {
  const int32_t* slots;
  const uint32_t* bounds;
  int32_t count;

  uint64_t units(int32_t i) const {
    const uint64_t begin = i == 0 ? 0 : uint64_t{bounds[i - 1]} + 1;
    return (i == count - 1 ? kShareUnits : uint64_t{bounds[i]} + 1) - begin;
  }
  // End of replica i's entries among `num_entries` in all, the one before it ending at `begin`: the running sum of
  // the shares, rounded, with at least one entry each.
  int64_t EntriesEnd(int32_t i, int64_t begin, int64_t num_entries) const {
    const uint64_t end_units = i == count - 1 ? kShareUnits : uint64_t{bounds[i]} + 1;
    const uint64_t wanted = (end_units * static_cast<uint64_t>(num_entries) + kShareUnits / 2) / kShareUnits;
    return std::clamp(static_cast<int64_t>(wanted), begin + 1, num_entries - (count - 1 - i));
  }
  // Sum of the differences to the shares, in units.
  uint64_t ErrorOf(int64_t num_entries) const {
    uint64_t error = 0;
    int64_t begin = 0;
    for (int32_t i = 0; i < count; ++i) {
      const int64_t end = EntriesEnd(i, begin, num_entries);
      const uint64_t given = static_cast<uint64_t>(end - begin) * kShareUnits / static_cast<uint64_t>(num_entries);
      error += given > units(i) ? given - units(i) : units(i) - given;
      begin = end;
    }
    return error;
  }
};

// Writes the entries so that those of one replica are spread; returns their number: the smallest up to `width` that
// is within 1/512 of the best.
inline int32_t RenderShares(const Replicas& replicas, int32_t width, int32_t* entries) {
  int64_t best = replicas.count;
  uint64_t best_error = std::numeric_limits<uint64_t>::max();
  for (int64_t n = replicas.count; n <= width; ++n) {
    const uint64_t error = replicas.ErrorOf(n);
    if (best_error == std::numeric_limits<uint64_t>::max() || error + kShareUnits / 512 < best_error) {
      best = n;
      best_error = error;
    }
  }
  int32_t written = 0;
  for (int64_t pass = 0; written < best; ++pass) {
    int64_t begin = 0;
    for (int32_t i = 0; i < replicas.count; ++i) {
      const int64_t end = replicas.EntriesEnd(i, begin, best);
      if (end - begin > pass) entries[written++] = replicas.slots[i];
      begin = end;
    }
  }
  return written;
}

}  // namespace evenkeel::engine
