// SPDX-License-Identifier: Apache-2.0
#include "algos/dispatch/rank_shares.h"

#include <algorithm>
#include <cstddef>

#include "algos/dispatch/transport.h"

namespace evenkeel::algos {

namespace {

constexpr uint64_t kUnits = uint64_t{1} << 32;
constexpr uint64_t kTrafficMax = uint64_t{1} << 30;

using Wide = unsigned __int128;

// units[i] = parts[i] / sum of 2^32, rounded so that they add up: the largest remainders, first ones first, get one
// more. Requires: sum of parts is `sum` > 0. `parts` may be `units`.
void ToUnits(std::span<uint64_t> parts, uint64_t sum, std::span<uint64_t> units) {
  uint64_t left = kUnits;
  for (size_t i = 0; i < parts.size(); ++i) left -= static_cast<uint64_t>(Wide{parts[i]} * kUnits / sum);
  // As many remainders as are left over are at least the `left`-th largest.
  const auto remainder = [&](size_t i) { return static_cast<uint64_t>(Wide{parts[i]} * kUnits % sum); };
  uint64_t low = 1, high = sum;  // the most remainders that reach `low` exceed `left`, if it is not the answer
  const auto num_from = [&](uint64_t bar) {
    uint64_t count = 0;
    for (size_t i = 0; i < parts.size(); ++i) count += remainder(i) >= bar ? 1 : 0;
    return count;
  };
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    if (num_from(middle) <= left) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  uint64_t equal_left = left - num_from(low);  // of those just below the bar
  for (size_t i = 0; i < parts.size(); ++i) {
    const uint64_t rest = remainder(i);
    uint64_t more = rest >= low ? 1 : 0;
    if (more == 0 && low > 1 && rest == low - 1 && equal_left > 0) {
      more = 1;
      --equal_left;
    }
    units[i] = static_cast<uint64_t>(Wide{parts[i]} * kUnits / sum) + more;
  }
}

}  // namespace

void SplitForRank(int32_t rank, std::span<const int32_t> slots, std::span<const uint64_t> shares,
                  const RankShareOptions& options, RankShareScratch scratch, std::span<uint64_t> units) {
  const size_t k = slots.size(), num_ranks = options.traffic.size();
  const auto ranks = scratch.rank_of_replica.first(k);
  uint64_t kept = 0;
  for (size_t i = 0; i < k; ++i) {
    ranks[i] = slots[i] / options.slots_per_rank;
    const bool avoided = !options.avoided.empty() && options.avoided[static_cast<size_t>(ranks[i])] != 0;
    units[i] = avoided ? 0 : shares[i];
    kept += units[i];
  }
  if (kept == 0) {
    std::ranges::copy(shares, units.begin());
    kept = kUnits;
  }
  if (kept != kUnits) ToUnits(units, kept, units);
  const uint64_t own = options.traffic[static_cast<size_t>(rank)];
  if (options.preference == RoutePreference::kNone || own == 0 || k == 1) return;

  const auto demand = scratch.demand.first(num_ranks), supply = scratch.supply.first(k), flows = scratch.flows.first(k);
  uint64_t sum = 0;
  for (size_t r = 0; r < num_ranks; ++r) {
    demand[r] = options.traffic[r] * kUnits;
    sum += options.traffic[r];
  }
  for (size_t i = 0; i < k; ++i) supply[i] = units[i] * sum;
  std::ranges::fill(flows, 0);
  const auto send = [&](int32_t from, int32_t replica, uint64_t sent) {
    if (from == rank) flows[static_cast<size_t>(replica)] += sent;
  };
  const Crossing crossing{.demand = demand, .supply = supply, .rank_of_replica = ranks};
  if (options.preference == RoutePreference::kNear) {
    SendNear(crossing, options.host_of_rank, send);
  } else {
    SendApart(crossing, options.host_of_rank, scratch.domains, send);
  }
  ToUnits(flows, own * kUnits, units);
}

void FitTraffic(std::span<uint64_t> weights) {
  Wide sum = 0;
  for (uint64_t weight : weights) sum += weight;
  if (sum == 0) {
    std::ranges::fill(weights, 1);
    return;
  }
  // Half of the room is for those that are rounded up to 1.
  if (sum <= kTrafficMax / 2) return;
  for (uint64_t& weight : weights) {
    if (weight == 0) continue;
    weight = std::max<uint64_t>(1, static_cast<uint64_t>(Wide{weight} * (kTrafficMax / 2) / sum));
  }
}

}  // namespace evenkeel::algos
