// SPDX-License-Identifier: Apache-2.0
#include "algos/dispatch/rank_tables.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <numeric>
#include <vector>

#include "algos/base/rng.h"

namespace evenkeel::algos {
namespace {

using Units = __int128;

struct Case {
  Shape shape;
  LayerMap map;
  Surroundings surroundings;
};

// Every expert somewhere, unequal shares, some ranks without traffic.
Case CaseOf(Rng& rng) {
  Case made;
  made.shape = {.num_experts = static_cast<int>(rng.Between(1, 4)),
                .num_ranks = static_cast<int>(rng.Between(1, 8)),
                .slots_per_rank = static_cast<int>(rng.Between(1, 4))};
  made.shape.slots_per_rank = std::max(made.shape.slots_per_rank, 4 / made.shape.num_ranks + 1);
  Placement placement;
  for (int s = 0; s < made.shape.num_slots(); ++s) {
    placement.expert_of_slot.push_back(
        ExpertId(s < made.shape.num_experts ? s : static_cast<int>(rng.Between(-1, made.shape.num_experts - 1))));
  }
  rng.Shuffle(placement.expert_of_slot);
  Shares shares;
  for (size_t i = 0; i < Invert(placement, made.shape.num_experts).slots.size(); ++i) shares.push_back(rng.Uniform());
  const Replicas replicas = Invert(placement, made.shape.num_experts);
  for (int e = 0; e < made.shape.num_experts; ++e) {
    const auto first = static_cast<size_t>(replicas.offsets[static_cast<size_t>(e)]);
    const auto end = static_cast<size_t>(replicas.offsets[static_cast<size_t>(e) + 1]);
    double sum = 0;
    for (size_t i = first; i < end; ++i) sum += shares[i];
    for (size_t i = first; i < end; ++i) shares[i] = sum > 0 ? shares[i] / sum : 1.0 / static_cast<double>(end - first);
  }
  made.map = SharedMap(placement, made.shape.num_experts, shares);
  for (int rank = 0; rank < made.shape.num_ranks; ++rank) {
    made.surroundings.hosts.push_back(static_cast<int32_t>(rng.Below(4)));
    made.surroundings.traffic.push_back(rng.Chance(0.2) ? 0 : rng.Below(rng.Chance(0.3) ? 100000 : 10));
  }
  made.surroundings.traffic[0] += 1;
  return made;
}

// What the ranks of `maps` send where, of one expert: by (rank, slot), in weight x 2^-32.
std::map<std::pair<int, int>, Units> FlowsOf(const Case& made, const std::vector<LayerMap>& maps, ExpertId expert) {
  std::map<std::pair<int, int>, Units> flows;
  for (int rank = 0; rank < made.shape.num_ranks; ++rank) {
    const LayerMap& own = maps[static_cast<size_t>(rank)];
    for (int i = 0; i < own.num_replicas(expert); ++i) {
      const int slot = own.slots_of(expert)[static_cast<size_t>(i)].value();
      flows[{rank, slot}] += Units{made.surroundings.traffic[static_cast<size_t>(rank)]} * own.ShareUnits(expert, i);
    }
  }
  return flows;
}

// The most that can stay within domains (or must, of `apart`), given what each sends and takes.
Units WithinDomains(const Case& made, ExpertId expert, const std::vector<int32_t>& domains, bool apart) {
  std::map<int32_t, Units> out, in;
  Units total = 0;
  for (size_t r = 0; r < domains.size(); ++r) {
    out[domains[r]] += Units{made.surroundings.traffic[r]} * static_cast<Units>(kShareUnits);
    total += Units{made.surroundings.traffic[r]};
  }
  for (int i = 0; i < made.map.num_replicas(expert); ++i) {
    const RankId rank = made.shape.RankOf(made.map.slots_of(expert)[static_cast<size_t>(i)]);
    in[domains[rank.idx()]] += total * static_cast<Units>(made.map.ShareUnits(expert, i));
  }
  total *= static_cast<Units>(kShareUnits);
  Units within = 0;
  for (const auto& [domain, units] : out) {
    within += apart ? std::max<Units>(0, units + in[domain] - total) : std::min(units, in[domain]);
  }
  return within;
}

Units SentWithin(const Case& made, const std::map<std::pair<int, int>, Units>& flows,
                 const std::vector<int32_t>& domains) {
  Units within = 0;
  for (const auto& [pair, units] : flows) {
    const RankId to = made.shape.RankOf(SlotIdx(pair.second));
    if (domains[static_cast<size_t>(pair.first)] == domains[to.idx()]) within += units;
  }
  return within;
}

Units TotalTraffic(const Case& made) {
  return std::accumulate(made.surroundings.traffic.begin(), made.surroundings.traffic.end(), Units{0},
                         [](Units sum, uint64_t tokens) { return sum + Units{tokens}; });
}

}  // namespace

TEST_CASE("the group as a whole gives every replica its share, whatever ranks prefer", "[rank_tables]") {
  const int seed = GENERATE(range(0, 300));
  CAPTURE(seed);
  Rng rng(static_cast<uint64_t>(seed));
  const Case made = CaseOf(rng);
  const auto preference = static_cast<RoutePreference>(seed % 3);
  const std::vector<LayerMap> maps = RankMapsOf(made.map, made.shape, preference, made.surroundings);
  const Units traffic = TotalTraffic(made);
  for (const LayerMap& map : maps) REQUIRE(Validate(map, made.shape).ok());
  for (int e = 0; e < made.shape.num_experts; ++e) {
    const auto flows = FlowsOf(made, maps, ExpertId(e));
    for (int i = 0; i < made.map.num_replicas(ExpertId(e)); ++i) {
      const SlotIdx slot = made.map.slots_of(ExpertId(e))[static_cast<size_t>(i)];
      Units got = 0;
      for (int rank = 0; rank < made.shape.num_ranks; ++rank) {
        const auto found = flows.find({rank, slot.value()});
        if (found != flows.end()) got += found->second;
      }
      const Units wanted = traffic * static_cast<Units>(made.map.ShareUnits(ExpertId(e), i));
      // Each rank's split is rounded by less than 2^-32 of its tokens.
      CHECK(got - wanted <= traffic);
      CHECK(wanted - got <= traffic);
    }
  }
}

TEST_CASE("near maps keep as much on the rank, then on the host, as shares allow", "[rank_tables]") {
  const int seed = GENERATE(range(0, 300));
  CAPTURE(seed);
  Rng rng(static_cast<uint64_t>(seed));
  const Case made = CaseOf(rng);
  const std::vector<LayerMap> maps = RankMapsOf(made.map, made.shape, RoutePreference::kNear, made.surroundings);
  std::vector<int32_t> ranks(static_cast<size_t>(made.shape.num_ranks));
  std::iota(ranks.begin(), ranks.end(), 0);
  const Units rounding = TotalTraffic(made) * made.shape.num_slots();
  for (int e = 0; e < made.shape.num_experts; ++e) {
    const auto flows = FlowsOf(made, maps, ExpertId(e));
    CHECK(SentWithin(made, flows, ranks) >= WithinDomains(made, ExpertId(e), ranks, false) - rounding);
    CHECK(SentWithin(made, flows, made.surroundings.hosts) >=
          WithinDomains(made, ExpertId(e), made.surroundings.hosts, false) - rounding);
  }
}

TEST_CASE("remote maps keep no more on a host than shares force", "[rank_tables]") {
  const int seed = GENERATE(range(0, 300));
  CAPTURE(seed);
  Rng rng(static_cast<uint64_t>(seed));
  const Case made = CaseOf(rng);
  const std::vector<LayerMap> maps = RankMapsOf(made.map, made.shape, RoutePreference::kRemote, made.surroundings);
  const Units rounding = TotalTraffic(made) * made.shape.num_slots();
  for (int e = 0; e < made.shape.num_experts; ++e) {
    const auto flows = FlowsOf(made, maps, ExpertId(e));
    CHECK(SentWithin(made, flows, made.surroundings.hosts) <=
          WithinDomains(made, ExpertId(e), made.surroundings.hosts, true) + rounding);
  }
}

TEST_CASE("avoided ranks get nothing, and the others what they had in proportion", "[rank_tables]") {
  const Shape shape{.num_experts = 2, .num_ranks = 4, .slots_per_rank = 1};
  const Placement placement{.expert_of_slot = {ExpertId(0), ExpertId(0), ExpertId(0), ExpertId(1)}};
  const LayerMap map = SharedMap(placement, 2, std::vector<double>{0.5, 0.25, 0.25, 1.0});
  const Surroundings around{.avoided = {1, 0, 0, 1}};
  for (const LayerMap& own : RankMapsOf(map, shape, RoutePreference::kNone, around)) {
    CHECK(own.slots == std::vector<SlotIdx>{SlotIdx(1), SlotIdx(2), SlotIdx(3)});
    CHECK(own.ShareUnits(ExpertId(0), 0) == kShareUnits / 2);
  }
}

TEST_CASE("a dead expert stays without a replica", "[rank_tables]") {
  const Shape shape{.num_experts = 2, .num_ranks = 2, .slots_per_rank = 1};
  const LayerMap map = EvenMap({.expert_of_slot = {ExpertId(1), ExpertId(1)}}, 2);
  const std::vector<LayerMap> maps = RankMapsOf(map, shape, RoutePreference::kNear, {});
  REQUIRE(maps.size() == 2);
  CHECK(maps[0].num_replicas(ExpertId(0)) == 0);
  CHECK(maps[0].slots == std::vector<SlotIdx>{SlotIdx(0)});
  CHECK(maps[1].slots == std::vector<SlotIdx>{SlotIdx(1)});
}

TEST_CASE("traffic beyond what fits keeps its proportions", "[rank_tables]") {
  std::vector<uint64_t> weights = {uint64_t{1} << 60, uint64_t{3} << 60, 0, 1};
  FitTraffic(weights);
  CHECK(weights[1] >= 3 * weights[0]);
  CHECK(weights[1] <= 3 * weights[0] + 3);
  CHECK(weights[2] == 0);
  CHECK(weights[3] == 1);
  CHECK(weights[0] + weights[1] + weights[3] <= uint64_t{1} << 30);
}

}  // namespace evenkeel::algos
