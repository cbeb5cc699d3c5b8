// SPDX-License-Identifier: Apache-2.0
#include "algos/dispatch/static_choice.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "algos/base/rng.h"
#include "algos/dispatch/rank_tables.h"
#include "tests/golden/golden.h"

namespace evenkeel::algos {
namespace {

struct RandomLayer {
  Shape shape;
  LayerMap map;
  Surroundings surroundings;
};

RandomLayer LayerOf(Rng& rng) {
  RandomLayer layer{.shape = {.num_experts = static_cast<int>(rng.Between(1, 5)),
                              .num_ranks = static_cast<int>(rng.Between(1, 6)),
                              .slots_per_rank = static_cast<int>(rng.Between(1, 3))},
                    .map = {},
                    .surroundings = {}};
  Placement placement;
  for (int s = 0; s < layer.shape.num_slots(); ++s) {
    placement.expert_of_slot.push_back(ExpertId(static_cast<int>(rng.Between(-1, layer.shape.num_experts - 1))));
  }
  layer.map = EvenMap(placement, layer.shape.num_experts);
  for (int rank = 0; rank < layer.shape.num_ranks; ++rank) {
    layer.surroundings.hosts.push_back(static_cast<int32_t>(rng.Below(3)));
    layer.surroundings.avoided.push_back(rng.Chance(0.3) ? 1 : 0);
  }
  return layer;
}

int32_t At(const std::vector<int32_t>& tables, const Shape& shape, int rank, int expert) {
  return tables[static_cast<size_t>(rank * shape.num_experts + expert)];
}

}  // namespace

TEST_CASE("static tables are those of the definition written down a second time", "[static_choice]") {
  const testing::Golden golden("dispatch.txt");
  for (size_t i = 0; i < golden.rows("case").size(); ++i) {
    CAPTURE(i);
    const auto& row = golden.rows("case")[i];
    const Shape shape{.num_experts = static_cast<int>(row[0]),
                      .num_ranks = static_cast<int>(row[1]),
                      .slots_per_rank = static_cast<int>(row[2])};
    Placement placement;
    for (int64_t expert : golden.rows("held")[i])
      placement.expert_of_slot.push_back(ExpertId(static_cast<int>(expert)));
    Surroundings around;
    for (int64_t host : golden.rows("hosts")[i]) around.hosts.push_back(static_cast<int32_t>(host));
    around.avoided.assign(static_cast<size_t>(shape.num_ranks), 0);
    for (int64_t rank : golden.rows("avoided")[i]) around.avoided[static_cast<size_t>(rank)] = 1;
    around.traffic.assign(static_cast<size_t>(shape.num_ranks), 1);
    for (int64_t rank : golden.rows("absent")[i]) around.traffic[static_cast<size_t>(rank)] = 0;
    const auto tables = StaticTablesOf(EvenMap(placement, shape.num_experts), shape, LayerId(static_cast<int>(row[3])),
                                       static_cast<StaticRule>(row[5]), around, static_cast<uint64_t>(row[4]));
    CHECK(std::vector<int64_t>(tables.begin(), tables.end()) == golden.rows("chosen")[i]);
  }
}

TEST_CASE("remote first goes to other ranks, evenly, and home only where there is no other", "[static_choice]") {
  const int seed = GENERATE(range(0, 200));
  CAPTURE(seed);
  Rng rng(static_cast<uint64_t>(seed));
  const RandomLayer layer = LayerOf(rng);
  const auto tables = StaticTablesOf(layer.map, layer.shape, LayerId(3), StaticRule::kRemote, {});
  for (int e = 0; e < layer.shape.num_experts; ++e) {
    const auto slots = layer.map.slots_of(ExpertId(e));
    std::vector<int> counts(slots.size(), 0);
    for (int rank = 0; rank < layer.shape.num_ranks; ++rank) {
      const SlotIdx chosen(At(tables, layer.shape, rank, e));
      if (slots.empty()) {
        CHECK_FALSE(chosen.valid());
        continue;
      }
      const auto is_remote = [&](SlotIdx slot) { return layer.shape.RankOf(slot) != RankId(rank); };
      const bool any_remote = std::ranges::any_of(slots, is_remote);
      const auto at = std::ranges::find(slots, chosen);
      REQUIRE(at != slots.end());
      CHECK(is_remote(chosen) == any_remote);
      const int count = counts[static_cast<size_t>(at - slots.begin())]++;
      for (size_t i = 0; i < slots.size(); ++i) {
        if (is_remote(slots[i]) == any_remote) CHECK(counts[i] >= count);
      }
    }
  }
}

TEST_CASE("avoided ranks are chosen only for experts that are nowhere else", "[static_choice]") {
  const int seed = GENERATE(range(0, 200));
  CAPTURE(seed);
  Rng rng(static_cast<uint64_t>(seed));
  const RandomLayer layer = LayerOf(rng);
  const auto rule = static_cast<StaticRule>(seed % 3);
  const auto tables = StaticTablesOf(layer.map, layer.shape, LayerId(0), rule, layer.surroundings);
  const auto is_avoided = [&](SlotIdx slot) { return layer.surroundings.avoided[layer.shape.RankOf(slot).idx()] != 0; };
  for (int e = 0; e < layer.shape.num_experts; ++e) {
    const auto slots = layer.map.slots_of(ExpertId(e));
    const bool all_avoided = std::ranges::all_of(slots, is_avoided);
    int least = layer.shape.num_ranks, most = 0;
    for (SlotIdx slot : slots) {
      int count = 0;
      for (int rank = 0; rank < layer.shape.num_ranks; ++rank)
        count += At(tables, layer.shape, rank, e) == slot.value();
      if (!all_avoided && is_avoided(slot)) {
        CHECK(count == 0);
        continue;
      }
      least = std::min(least, count);
      most = std::max(most, count);
    }
    if (rule == StaticRule::kAny && !slots.empty()) CHECK(most - least <= 1);
  }
}

TEST_CASE("another seed breaks ties otherwise, the same one alike", "[static_choice]") {
  const Shape shape{.num_experts = 8, .num_ranks = 8, .slots_per_rank = 4};
  Placement placement;
  for (int s = 0; s < shape.num_slots(); ++s) placement.expert_of_slot.push_back(ExpertId(s % 8));
  const LayerMap map = EvenMap(placement, 8);
  const auto tables = StaticTablesOf(map, shape, LayerId(0), StaticRule::kAny, {});
  CHECK(tables == StaticTablesOf(map, shape, LayerId(0), StaticRule::kAny, {}, 42));
  CHECK(tables != StaticTablesOf(map, shape, LayerId(0), StaticRule::kAny, {}, 43));
  CHECK(tables != StaticTablesOf(map, shape, LayerId(1), StaticRule::kAny, {}));
}

}  // namespace evenkeel::algos
