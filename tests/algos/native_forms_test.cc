// SPDX-License-Identifier: Apache-2.0
#include "algos/native_forms.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "algos/base/rng.h"
#include "tests/golden/golden.h"

namespace evenkeel::algos {
namespace {

using evenkeel::testing::Golden;

Placement PlacementFrom(const std::vector<int64_t>& experts) {
  Placement placement;
  for (int64_t expert : experts) placement.expert_of_slot.push_back(ExpertId(static_cast<int32_t>(expert)));
  return placement;
}

NativeMaps Render(const LayerMap& map, const Shape& shape, int width) {
  const auto native = RenderNativeMaps(map, shape, {.width = width});
  REQUIRE(native.status() == absl::OkStatus());
  REQUIRE(CheckNativeMaps(*native, map, shape) == absl::OkStatus());
  return *native;
}

std::vector<int32_t> RowOf(const NativeMaps& native, int expert) {
  const auto begin = native.logical_to_physical.begin() + expert * native.width;
  return {begin, begin + native.width};
}

TEST_CASE("a device's tables come out as vllm-ascend derives them", "[native_forms]") {
  const Golden golden("ascend_sample.txt");
  const Shape shape{golden.number("experts"), golden.number("ranks"), golden.number("slots_per_rank")};
  const LayerMap map = EvenMap(PlacementFrom(golden.flat<int64_t>("device")), shape.num_experts);
  const NativeMaps native = Render(map, shape, 2);
  CHECK(native.physical_to_logical == golden.flat<int32_t>("device"));
  const RankId rank(golden.number("rank"));
  const RankMaps maps = RenderRankMaps(native, map, shape, rank);
  CHECK(maps.expert_map == golden.flat<int32_t>("expert_map"));
  CHECK(maps.log2phy == golden.flat<int32_t>("log2phy"));
  CHECK(CheckRankMaps(maps, map, shape, rank) == absl::OkStatus());
}

TEST_CASE("even shares render as one entry a replica, in slot order", "[native_forms]") {
  const Shape shape{.num_experts = 2, .num_ranks = 2, .slots_per_rank = 2};
  const NativeMaps native = Render(EvenMap(PlacementFrom({0, 1, 0, 0}), 2), shape, 8);
  CHECK(native.replica_count == std::vector<int32_t>{3, 1});
  CHECK(RowOf(native, 0) == std::vector<int32_t>{0, 2, 3, -1, -1, -1, -1, -1});
  CHECK(RowOf(native, 1) == std::vector<int32_t>{1, -1, -1, -1, -1, -1, -1, -1});
}

TEST_CASE("unequal shares render as repeated entries, spread over the row", "[native_forms]") {
  const Shape shape{.num_experts = 2, .num_ranks = 2, .slots_per_rank = 2};
  const LayerMap map = SharedMap(PlacementFrom({0, 1, 0, -1}), 2, std::vector<double>{0.75, 0.25, 1.0});
  const NativeMaps native = Render(map, shape, 8);
  CHECK(native.replica_count == std::vector<int32_t>{4, 1});
  CHECK(RowOf(native, 0) == std::vector<int32_t>{0, 0, 2, 0, -1, -1, -1, -1});
  CHECK(native.physical_to_logical == std::vector<int32_t>{0, 1, 0, -1});
}

TEST_CASE("a share too small for the row still keeps one entry", "[native_forms]") {
  const Shape shape{.num_experts = 1, .num_ranks = 3, .slots_per_rank = 1};
  const LayerMap map = SharedMap(PlacementFrom({0, 0, 0}), 1, std::vector<double>{0.998, 0.001, 0.001});
  const NativeMaps native = Render(map, shape, 4);
  CHECK(native.replica_count == std::vector<int32_t>{4});
  const auto row = RowOf(native, 0);
  CHECK(std::count(row.begin(), row.end(), 0) == 2);
  CHECK(std::count(row.begin(), row.end(), 1) == 1);
  CHECK(std::count(row.begin(), row.end(), 2) == 1);
}

TEST_CASE("more replicas than the row is wide are refused by name", "[native_forms]") {
  const Shape shape{.num_experts = 1, .num_ranks = 3, .slots_per_rank = 1};
  const auto native = RenderNativeMaps(EvenMap(PlacementFrom({0, 0, 0}), 1), shape, {.width = 2});
  CHECK(native.status().code() == absl::StatusCode::kResourceExhausted);
  CHECK(native.status().message() == "native maps: expert 0 has 3 replicas; rows hold 2");
  CHECK(RenderNativeMaps(EvenMap(PlacementFrom({0, 0, 0}), 1), shape, {.width = 0}).status().code() ==
        absl::StatusCode::kInvalidArgument);
}

TEST_CASE("an expert without a live replica has an empty row and no slot for its tokens", "[native_forms]") {
  const Shape shape{.num_experts = 2, .num_ranks = 2, .slots_per_rank = 1};
  const LayerMap map = EvenMap(PlacementFrom({0, -1}), 2);
  CHECK_FALSE(RenderNativeMaps(map, shape, {.width = 2}).ok());
  const auto native = RenderNativeMaps(map, shape, {.width = 2, .rules = {.allow_dead_experts = true}});
  REQUIRE(native.ok());
  CHECK(CheckNativeMaps(*native, map, shape) == absl::OkStatus());
  CHECK(native->replica_count == std::vector<int32_t>{1, 0});
  const RankMaps maps = RenderRankMaps(*native, map, shape, RankId(1));
  CHECK(maps.log2phy == std::vector<int32_t>{0, -1});
  CHECK(maps.expert_map == std::vector<int32_t>{-1, -1});
  CHECK(CheckRankMaps(maps, map, shape, RankId(1)) == absl::OkStatus());
}

struct Random {
  Shape shape;
  LayerMap map;
};

Random RandomMap(Rng& rng) {
  Random random;
  random.shape = {.num_experts = static_cast<int>(rng.Between(1, 12)),
                  .num_ranks = static_cast<int>(rng.Between(1, 8)),
                  .slots_per_rank = 0};
  const Shape& shape = random.shape;
  random.shape.slots_per_rank =
      (shape.num_experts + shape.num_ranks - 1) / shape.num_ranks + static_cast<int>(rng.Below(3));
  Placement placement = DefaultPlacement(shape);
  rng.Shuffle(placement.expert_of_slot);
  Shares shares(placement.expert_of_slot.size());
  for (double& share : shares) share = rng.Chance(0.2) ? 0.0 : rng.Uniform();
  random.map = SharedMap(placement, shape.num_experts, shares);
  return random;
}

TEST_CASE("all forms of a map agree with it and with each other", "[native_forms]") {
  const uint64_t seed = GENERATE(range(0, 300));
  CAPTURE(seed);
  Rng rng(seed);
  const auto [shape, map] = RandomMap(rng);
  const NativeMaps native = Render(map, shape, 32);
  for (size_t e = 0; e < native.replica_count.size(); ++e) {
    const auto row = RowOf(native, static_cast<int>(e));
    for (int32_t i = 0; i < native.replica_count[e]; ++i) {
      // Every entry of a row points to a slot that says the same expert.
      const auto slot = static_cast<size_t>(row[static_cast<size_t>(i)]);
      REQUIRE(native.physical_to_logical[slot] == static_cast<int32_t>(e));
    }
  }
  for (int rank = 0; rank < shape.num_ranks; ++rank) {
    const RankMaps maps = RenderRankMaps(native, map, shape, RankId(rank));
    REQUIRE(CheckRankMaps(maps, map, shape, RankId(rank)) == absl::OkStatus());
    for (size_t e = 0; e < maps.expert_map.size(); ++e) {
      if (maps.expert_map[e] < 0) continue;
      const SlotIdx slot = shape.SlotAt(RankId(rank), maps.expert_map[e]);
      REQUIRE(native.physical_to_logical[slot.idx()] == static_cast<int32_t>(e));
    }
  }
}

TEST_CASE("wide rows meet the shares to within one entry a replica", "[native_forms]") {
  const uint64_t seed = GENERATE(range(0, 100));
  CAPTURE(seed);
  Rng rng(seed);
  const auto [shape, map] = RandomMap(rng);
  const NativeMaps native = Render(map, shape, 64);
  for (int e = 0; e < shape.num_experts; ++e) {
    const auto row = RowOf(native, e);
    const double count = native.replica_count[static_cast<size_t>(e)];
    const int k = map.num_replicas(ExpertId(e));
    for (int i = 0; i < k; ++i) {
      const double share = static_cast<double>(map.ShareUnits(ExpertId(e), i)) / 0x1p32;
      const auto found = std::count(row.begin(), row.end(), map.slots_of(ExpertId(e))[static_cast<size_t>(i)].value());
      CHECK(std::abs(static_cast<double>(found) / count - share) <= k / 64.0);
    }
  }
}

TEST_CASE("every damage to a table is found", "[native_forms]") {
  const uint64_t seed = GENERATE(range(0, 200));
  CAPTURE(seed);
  Rng rng(seed);
  const auto [shape, map] = RandomMap(rng);
  const NativeMaps good = Render(map, shape, 32);
  NativeMaps bad = good;
  auto& table = seed % 3 == 0 ? bad.physical_to_logical : seed % 3 == 1 ? bad.logical_to_physical : bad.replica_count;
  const size_t at = rng.Below(table.size());
  if (seed % 2 == 0) {
    table[at] += seed % 3 == 1 && table[at] == -1 ? 1 : static_cast<int32_t>(shape.num_slots() + 1);
  } else {
    table.pop_back();
  }
  CHECK(CheckNativeMaps(bad, map, shape).code() == absl::StatusCode::kInternal);
  RankMaps maps = RenderRankMaps(good, map, shape, RankId(0));
  const size_t e = rng.Below(maps.log2phy.size());
  (seed % 2 == 0 ? maps.log2phy : maps.expert_map)[e] += shape.num_slots();
  CHECK(CheckRankMaps(maps, map, shape, RankId(0)).code() == absl::StatusCode::kInternal);
}

TEST_CASE("a table of another map is found", "[native_forms]") {
  const Shape shape{.num_experts = 2, .num_ranks = 2, .slots_per_rank = 2};
  const LayerMap before = EvenMap(PlacementFrom({0, 1, 0, 1}), 2);
  const LayerMap after = EvenMap(PlacementFrom({0, 1, 1, 0}), 2);
  CHECK(CheckNativeMaps(Render(before, shape, 4), after, shape).message() ==
        "physical_to_logical: slot 2 says expert 0, the map 1");
}

TEST_CASE("initial maps hold every expert, fill every slot and are linear without redundancy", "[native_forms]") {
  const int num_experts = GENERATE(1, 3, 7, 8, 60, 256);
  const int num_ranks = GENERATE(1, 2, 5, 8, 16);
  const int spare = GENERATE(0, 1, 3);
  CAPTURE(num_experts, num_ranks, spare);
  const Shape shape{num_experts, num_ranks, (num_experts + num_ranks - 1) / num_ranks + spare};
  const Placement placement = DefaultPlacement(shape);
  CHECK(CheckInitialPlacement(placement, shape) == absl::OkStatus());
  int widest = 0;
  const LayerMap map = EvenMap(placement, num_experts);
  for (int e = 0; e < num_experts; ++e) widest = std::max(widest, map.num_replicas(ExpertId(e)));
  const NativeMaps native = Render(map, shape, widest);
  // The tables' totals are one and the same (R1.44).
  CHECK(native.physical_to_logical.size() == static_cast<size_t>(num_experts + shape.num_redundant()));
  for (int rank = 0; rank < num_ranks; ++rank) {
    CHECK(CheckRankMaps(RenderRankMaps(native, map, shape, RankId(rank)), map, shape, RankId(rank)).ok());
  }
}

TEST_CASE("an initial map that is not one is found", "[native_forms]") {
  const Shape tight{.num_experts = 4, .num_ranks = 2, .slots_per_rank = 2};
  CHECK(CheckInitialPlacement(PlacementFrom({0, 1, 3, 2}), tight).message() ==
        "initial map: slot 2 holds expert 3 without redundancy");
  const Shape loose{.num_experts = 3, .num_ranks = 2, .slots_per_rank = 2};
  CHECK(CheckInitialPlacement(PlacementFrom({0, 1, 2, -1}), loose).message() == "initial map: slot 3 is blank");
  CHECK(CheckInitialPlacement(PlacementFrom({0, 1, 1, 0}), loose).message() ==
        "initial map: placement: expert 2 has no slot");
}

}  // namespace
}  // namespace evenkeel::algos
