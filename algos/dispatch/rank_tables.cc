// SPDX-License-Identifier: Apache-2.0
#include "algos/dispatch/rank_tables.h"

#include <algorithm>
#include <span>

namespace evenkeel::algos {

namespace {

std::vector<int32_t> LowestRankOfHost(const Shape& shape, const std::vector<int32_t>& hosts) {
  std::vector<int32_t> lowest;
  for (int32_t rank = 0; rank < shape.num_ranks; ++rank) {
    const auto same = hosts.empty() ? hosts.end() : std::ranges::find(hosts, hosts[static_cast<size_t>(rank)]);
    lowest.push_back(same == hosts.end() ? rank : static_cast<int32_t>(same - hosts.begin()));
  }
  return lowest;
}

std::vector<int32_t> SlotsOf(const LayerMap& map, ExpertId expert) {
  std::vector<int32_t> slots;
  for (SlotIdx slot : map.slots_of(expert)) slots.push_back(slot.value());
  return slots;
}

// The replicas that get something, as the next expert of `map`.
void Append(std::span<const int32_t> slots, std::span<const uint64_t> units, LayerMap& map) {
  uint64_t end = 0;
  for (size_t i = 0; i < slots.size(); ++i) {
    if (units[i] == 0) continue;
    end += units[i];
    map.slots.push_back(SlotIdx(slots[i]));
    map.bounds.push_back(static_cast<uint32_t>(end - 1));
  }
  map.offsets.push_back(static_cast<int32_t>(map.slots.size()));
}

}  // namespace

std::vector<LayerMap> RankMapsOf(const LayerMap& map, const Shape& shape, RoutePreference preference,
                                 const Surroundings& surroundings) {
  const size_t num_ranks = static_cast<size_t>(shape.num_ranks), num_slots = static_cast<size_t>(shape.num_slots());
  const std::vector<int32_t> hosts = LowestRankOfHost(shape, surroundings.hosts);
  std::vector<uint64_t> traffic = surroundings.traffic;
  traffic.resize(num_ranks, surroundings.traffic.empty() ? 1 : 0);
  FitTraffic(traffic);
  const RankShareOptions options{.preference = preference,
                                 .slots_per_rank = shape.slots_per_rank,
                                 .host_of_rank = hosts,
                                 .avoided = surroundings.avoided,
                                 .traffic = traffic};
  std::vector<uint64_t> demand(num_ranks), domains(2 * num_ranks), supply(num_slots), flows(num_slots);
  std::vector<int32_t> rank_of_replica(num_slots);
  const RankShareScratch scratch{demand, domains, supply, flows, rank_of_replica};
  std::vector<LayerMap> maps(num_ranks);
  for (LayerMap& of_rank : maps) of_rank.offsets = {0};
  for (int e = 0; e < shape.num_experts; ++e) {
    const std::vector<int32_t> slots = SlotsOf(map, ExpertId(e));
    std::vector<uint64_t> shares, units(slots.size());
    for (size_t i = 0; i < slots.size(); ++i) shares.push_back(map.ShareUnits(ExpertId(e), static_cast<int>(i)));
    for (size_t r = 0; r < num_ranks; ++r) {
      if (!slots.empty()) SplitForRank(static_cast<int32_t>(r), slots, shares, options, scratch, units);
      Append(slots, units, maps[r]);
    }
  }
  return maps;
}

std::vector<int32_t> StaticTablesOf(const LayerMap& map, const Shape& shape, LayerId layer, StaticRule rule,
                                    const Surroundings& surroundings, uint64_t seed) {
  const size_t num_ranks = static_cast<size_t>(shape.num_ranks), num_experts = static_cast<size_t>(shape.num_experts);
  std::vector<int32_t> tables(num_ranks * num_experts, -1), counts, chosen(num_ranks);
  std::vector<uint8_t> absent;
  for (uint64_t tokens : surroundings.traffic) absent.push_back(tokens == 0 ? 1 : 0);
  StaticOptions options{.rule = rule,
                        .slots_per_rank = shape.slots_per_rank,
                        .host_of_rank = surroundings.hosts,
                        .avoided = surroundings.avoided,
                        .absent = absent,
                        .seed = seed,
                        .layer = layer.value()};
  for (size_t e = 0; e < num_experts; ++e) {
    options.expert = static_cast<int32_t>(e);
    const std::vector<int32_t> slots = SlotsOf(map, ExpertId(options.expert));
    if (slots.empty()) continue;
    counts.assign(slots.size(), 0);
    ChooseStatically(slots, options, counts, chosen);
    for (size_t r = 0; r < num_ranks; ++r) tables[r * num_experts + e] = slots[static_cast<size_t>(chosen[r])];
  }
  return tables;
}

}  // namespace evenkeel::algos
