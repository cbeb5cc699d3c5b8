// SPDX-License-Identifier: Apache-2.0
#include "algos/layer_map.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "algos/base/rng.h"

namespace evenkeel::algos {
namespace {

constexpr Shape kShape{.num_experts = 3, .num_ranks = 2, .slots_per_rank = 3};

Placement PlacementFrom(std::initializer_list<int> experts) {
  Placement placement;
  for (int expert : experts) placement.expert_of_slot.push_back(ExpertId(expert));
  return placement;
}

// The slot that a copy of `expert` at `position` goes to, as the header says it.
SlotIdx Route(const LayerMap& map, ExpertId expert, uint32_t position) {
  for (int32_t i = map.offsets[expert.idx()]; i < map.offsets[expert.idx() + 1]; ++i) {
    if (position <= map.bounds[static_cast<size_t>(i)]) return map.slots[static_cast<size_t>(i)];
  }
  return SlotIdx();
}

TEST_CASE("an even map shares every expert evenly and routes every position", "[layer_map]") {
  const LayerMap map = EvenMap(PlacementFrom({0, 1, 2, 0, 0, -1}), 3);
  CHECK(Validate(map, kShape).ok());
  CHECK(map.num_replicas(ExpertId(0)) == 3);
  uint64_t units = 0;
  for (int i = 0; i < 3; ++i) {
    const uint64_t share = map.ShareUnits(ExpertId(0), i);
    CHECK(share >= kShareUnits / 3);
    CHECK(share <= kShareUnits / 3 + 1);
    units += share;
  }
  CHECK(units == kShareUnits);
  CHECK(map.ShareUnits(ExpertId(1), 0) == kShareUnits);
  CHECK(Route(map, ExpertId(0), 0) == SlotIdx(0));
  CHECK(Route(map, ExpertId(0), UINT32_MAX) == SlotIdx(4));
  CHECK(Route(map, ExpertId(1), UINT32_MAX) == SlotIdx(1));
}

TEST_CASE("whatever the shares, the map is valid, shares are met to a unit or are one unit at least", "[layer_map]") {
  const uint64_t seed = GENERATE(range(0, 500));
  CAPTURE(seed);
  Rng rng(seed);
  const int k = static_cast<int>(rng.Between(1, 9));
  const Shape shape{.num_experts = 1, .num_ranks = k, .slots_per_rank = 1};
  Placement placement;
  placement.expert_of_slot.assign(static_cast<size_t>(k), ExpertId(0));
  Shares shares(static_cast<size_t>(k));
  for (double& share : shares) {
    share = rng.Uniform();
    if (rng.Chance(0.3)) share *= 1e-12;
    if (rng.Chance(0.2)) share = 0;
  }
  const LayerMap map = SharedMap(placement, 1, shares);
  REQUIRE(Validate(map, shape).ok());
  double total = 0;
  for (double share : shares) total += share;
  uint64_t sum = 0;
  for (int i = 0; i < k; ++i) {
    const uint64_t units = map.ShareUnits(ExpertId(0), i);
    sum += units;
    CHECK(units >= 1);
    const double wanted = (total > 0 ? shares[static_cast<size_t>(i)] / total : 1.0 / k) * 0x1p32;
    CHECK(std::abs(static_cast<double>(units) - wanted) <= k + 1);
  }
  CHECK(sum == kShareUnits);
}

TEST_CASE("a map's placement names its slots alone", "[layer_map]") {
  const Placement placement = PlacementFrom({0, 1, -1, 2, 0, -1});
  CHECK(PlacementOf(EvenMap(placement, 3), 6) == placement);
}

TEST_CASE("each promise of a map that is broken is found", "[layer_map]") {
  const LayerMap good = EvenMap(PlacementFrom({0, 1, 2, 0, 0, -1}), 3);
  REQUIRE(Validate(good, kShape).ok());
  const auto message = [](const LayerMap& map) { return std::string(Validate(map, kShape).message()); };
  LayerMap map = good;
  map.offsets.pop_back();
  CHECK(message(map).find("lengths do not fit") != std::string::npos);
  map = good;
  map.bounds.pop_back();
  CHECK(message(map).find("lengths do not fit") != std::string::npos);
  map = good;
  map.bounds[2] = UINT32_MAX - 1;
  CHECK(message(map) == "map: shares of expert 0 do not add up to 1");
  map = good;
  map.bounds[1] = map.bounds[0];
  CHECK(message(map) == "map: replicas of expert 0 are not in order");
  map = good;
  std::swap(map.slots[0], map.slots[1]);
  CHECK(message(map) == "map: replicas of expert 0 are not in order");
  map = good;
  map.slots[4] = map.slots[3];
  CHECK(message(map) == "map: slot 1 is named twice");
  map = good;
  map.slots[4] = SlotIdx(6);
  CHECK(message(map) == "map: expert 2 names slot 6 of 6");
  map = good;
  map.slots[4] = SlotIdx();
  CHECK(message(map) == "map: expert 2 names slot -1 of 6");
  map = good;
  std::swap(map.offsets[1], map.offsets[2]);
  CHECK_FALSE(Validate(map, kShape).ok());
}

TEST_CASE("an expert without a replica is an error unless allowed", "[layer_map]") {
  const LayerMap map = EvenMap(PlacementFrom({0, 1, -1, 0, 0, -1}), 3);
  CHECK(Validate(map, kShape).message() == "map: expert 2 has no live replica");
  CHECK(Validate(map, kShape, {.allow_dead_experts = true}).ok());
  CHECK_FALSE(Route(map, ExpertId(2), 7).valid());
}

TEST_CASE("digests tell maps apart, and the order of layers", "[layer_map]") {
  const LayerMap map = EvenMap(PlacementFrom({0, 1, 2, 0, 0, -1}), 3);
  CHECK(DigestOf(map) == DigestOf(EvenMap(PlacementFrom({0, 1, 2, 0, 0, -1}), 3)));
  const std::vector<double> uneven = {0.5, 0.25, 0.25, 1.0, 1.0};
  CHECK(DigestOf(map) != DigestOf(SharedMap(PlacementFrom({0, 1, 2, 0, 0, -1}), 3, uneven)));
  CHECK(DigestOf(map) != DigestOf(EvenMap(PlacementFrom({0, 1, 2, 0, -1, 0}), 3)));
  const std::vector<uint64_t> ab = {1, 2}, ba = {2, 1};
  CHECK(DigestOf(ab) != DigestOf(ba));
}

TEST_CASE("rank loads conserve the tokens of experts that live", "[layer_map]") {
  const uint64_t seed = GENERATE(range(0, 100));
  CAPTURE(seed);
  Rng rng(seed);
  const Shape shape{.num_experts = 12, .num_ranks = 4, .slots_per_rank = 5};
  Placement placement = DefaultPlacement(shape);
  rng.Shuffle(placement.expert_of_slot);
  Shares shares(20);
  for (double& share : shares) share = rng.Uniform();
  std::vector<uint64_t> tokens(12);
  double total = 0;
  for (uint64_t& count : tokens) total += static_cast<double>(count = rng.Below(1000));
  double sum = 0;
  for (double load : RankLoads(SharedMap(placement, 12, shares), shape, tokens)) sum += load;
  CHECK(sum == Approx(total));
}

TEST_CASE("rank loads follow the shares", "[layer_map]") {
  const LayerMap map = SharedMap(PlacementFrom({0, 1, -1, 0, 2, -1}), 3, std::vector<double>{0.25, 0.75, 1.0, 1.0});
  const auto loads = RankLoads(map, kShape, std::vector<uint64_t>{100, 10, 1});
  CHECK(loads[0] == Approx(35));
  CHECK(loads[1] == Approx(76));
}

}  // namespace
}  // namespace evenkeel::algos
