// SPDX-License-Identifier: Apache-2.0
//
// Transport: one expert's tokens from the ranks that send them to the replicas that take them, by place, so that each
// rank sends all it has and each replica takes exactly its share.
//
// A rank's demand and a replica's supply are integers with equal sums, at most 2^62: for traffic weights w and shares in
// units of 2^-32, demand = w x 2^32 and supply = units x (sum of w).
//
// Needs:     the C++ standard library alone; engines link it. Takes no memory.
// Order:     ties go to the lowest replica, then rank.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace evenkeel::algos {

inline constexpr uint64_t kAllUnits = ~uint64_t{0};

struct Crossing {
  std::span<uint64_t> demand;                // [num_ranks]; used up
  std::span<uint64_t> supply;                // [num_replicas]; used up
  std::span<const int32_t> rank_of_replica;  // [num_replicas]

  // Sends at most `units_max` from ranks to replicas where may(rank, rank of replica); returns how much it sent.
  template <typename May, typename Send>
  uint64_t SendWhere(uint64_t units_max, May&& may, Send&& send) {
    uint64_t left = units_max;
    for (size_t i = 0; i < supply.size(); ++i) {
      for (size_t r = 0; r < demand.size() && supply[i] > 0 && left > 0; ++r) {
        if (demand[r] == 0 || !may(static_cast<int32_t>(r), rank_of_replica[i])) continue;
        const uint64_t units = std::min({demand[r], supply[i], left});
        demand[r] -= units;
        supply[i] -= units;
        left -= units;
        send(static_cast<int32_t>(r), static_cast<int32_t>(i), units);
      }
    }
    return units_max - left;
  }
};

// Most within ranks, of the rest most within hosts: places are nested, so nearest first is best. `send` is called as
// send(rank, replica, units), a pair more than once. `host_of_rank` [num_ranks], or empty: each rank has its own.
template <typename Send>
void SendNear(Crossing crossing, std::span<const int32_t> host_of_rank, Send&& send) {
  const auto host = [&](int32_t rank) { return host_of_rank[static_cast<size_t>(rank)]; };
  crossing.SendWhere(
      kAllUnits, [](int32_t from, int32_t to) { return from == to; }, send);
  if (!host_of_rank.empty()) {
    crossing.SendWhere(
        kAllUnits, [&](int32_t from, int32_t to) { return host(from) == host(to); }, send);
  }
  crossing.SendWhere(
      kAllUnits, [](int32_t, int32_t) { return true; }, send);
}

// Most to other domains (ranks, or hosts): what must stay is what a domain sends and takes beyond the whole. The rest
// goes out in steps, each from or to the domain with most left, none so large that another could not be rid of its own.
// `domain_of_rank` [num_ranks]: the lowest rank of its domain. `scratch` [2 x num_ranks].
template <typename Send>
void SendApart(Crossing crossing, std::span<const int32_t> domain_of_rank, std::span<uint64_t> scratch, Send&& send) {
  const size_t num_ranks = crossing.demand.size();
  const std::span<uint64_t> out = scratch.first(num_ranks), in = scratch.subspan(num_ranks, num_ranks);
  const auto domain = [&](int32_t rank) { return static_cast<size_t>(domain_of_rank[static_cast<size_t>(rank)]); };
  std::ranges::fill(scratch, 0);
  uint64_t total = 0;
  for (size_t r = 0; r < num_ranks; ++r) {
    out[domain(static_cast<int32_t>(r))] += crossing.demand[r];
    total += crossing.demand[r];
  }
  for (size_t i = 0; i < crossing.supply.size(); ++i) in[domain(crossing.rank_of_replica[i])] += crossing.supply[i];
  for (size_t d = 0; d < num_ranks; ++d) {
    if (out[d] + in[d] <= total) continue;
    const uint64_t stays = out[d] + in[d] - total;
    const auto within = [&](int32_t from, int32_t to) { return domain(from) == d && domain(to) == d; };
    const auto to_others = [&](int32_t from, int32_t to) { return from != to && within(from, to); };
    const uint64_t sent = crossing.SendWhere(stays, to_others, send);
    crossing.SendWhere(stays - sent, within, send);
    out[d] -= stays;
    in[d] -= stays;
    total -= stays;
    break;  // two domains cannot both have more than the whole
  }
  while (total > 0) {
    const auto left = [&](size_t d) { return out[d] + in[d]; };
    size_t first = 0, second = num_ranks;
    for (size_t d = 1; d < num_ranks; ++d) {
      if (left(d) > left(first)) first = d;
    }
    const bool sends = out[first] > 0;
    for (size_t d = 0; d < num_ranks; ++d) {
      if (d == first || (sends ? in[d] : out[d]) == 0) continue;
      if (second == num_ranks || left(d) > left(second)) second = d;
    }
    if (second == num_ranks) break;
    const size_t from = sends ? first : second, to = sends ? second : first;
    uint64_t units = std::min(out[from], in[to]);
    for (size_t d = 0; d < num_ranks; ++d) {
      if (d != from && d != to) units = std::min(units, total - left(d));
    }
    if (units == 0) break;
    crossing.SendWhere(
        units, [&](int32_t r, int32_t to_rank) { return domain(r) == from && domain(to_rank) == to; }, send);
    out[from] -= units;
    in[to] -= units;
    total -= units;
  }
  crossing.SendWhere(
      kAllUnits, [](int32_t, int32_t) { return true; }, send);
}

}  // namespace evenkeel::algos
