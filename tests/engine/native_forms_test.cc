// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/base/rng.h"
#include "algos/layer_map.h"
#include "algos/placement.h"
#include "engine/evenkeel.h"
#include "engine/region/agent_region.h"
#include "tests/engine/test_region.h"

namespace evenkeel::engine {
namespace {

using algos::LayerMap;
using algos::Placement;
using algos::Shape;

constexpr Shape kShape{.num_experts = 8, .num_ranks = 4, .slots_per_rank = 3};

Placement PlacementRead(const TestRegion& region, int layer) {
  std::vector<int32_t> experts(static_cast<size_t>(kShape.num_slots()), 77);
  REQUIRE(evenkeel_physical_to_logical(region.get(), 0, layer, experts.data()) == EVENKEEL_OK);
  Placement placement;
  for (int32_t expert : experts) placement.expert_of_slot.push_back(ExpertId(expert));
  return placement;
}

// All native forms of a layer against the one map they come from.
void CheckForms(const TestRegion& region, int layer, const LayerMap& map) {
  const Placement placement = PlacementRead(region, layer);
  CHECK(placement == PlacementOf(map, kShape.num_slots()));
  for (int rank = 0; rank < kShape.num_ranks; ++rank) {
    std::vector<int32_t> local(static_cast<size_t>(kShape.num_experts), 77);
    REQUIRE(evenkeel_expert_map(region.get(), 0, layer, rank, local.data()) == EVENKEEL_OK);
    for (int e = 0; e < kShape.num_experts; ++e) {
      int32_t expected = -1;
      for (int s = kShape.slots_per_rank - 1; s >= 0; --s) {
        if (placement.expert_of_slot[kShape.SlotAt(RankId(rank), s).idx()] == ExpertId(e)) expected = s;
      }
      CHECK(local[static_cast<size_t>(e)] == expected);
    }
  }
  constexpr int32_t kWidth = 32;
  std::vector<int32_t> slots(static_cast<size_t>(kShape.num_experts * kWidth), 77);
  std::vector<int32_t> counts(static_cast<size_t>(kShape.num_experts), 77);
  REQUIRE(evenkeel_logical_to_physical(region.get(), 0, layer, kWidth, slots.data(), counts.data()) == EVENKEEL_OK);
  for (int e = 0; e < kShape.num_experts; ++e) {
    const int32_t* row = slots.data() + e * kWidth;
    const int32_t count = counts[static_cast<size_t>(e)];
    REQUIRE(count >= map.num_replicas(ExpertId(e)));
    REQUIRE(count <= kWidth);
    CHECK(std::all_of(row + count, row + kWidth, [](int32_t slot) { return slot == -1; }));
    const auto replicas = map.slots_of(ExpertId(e));
    int num_entries = 0;
    for (size_t i = 0; i < replicas.size(); ++i) {
      const auto times = static_cast<int>(std::count(row, row + count, replicas[i].value()));
      num_entries += times;
      CHECK(times >= 1);
      const double share = static_cast<double>(map.ShareUnits(ExpertId(e), static_cast<int>(i))) / 0x1.0p32;
      CHECK(std::abs(static_cast<double>(times) / count - share) < 2.0 / kWidth);
    }
    CHECK(num_entries == count);
  }
}

}  // namespace

TEST_CASE("before any agent the forms are those of the default placement", "[native_forms]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  region.MakeReady();

  for (int layer = 0; layer < 2; ++layer) {
    CHECK(PlacementRead(region, layer) == DefaultPlacement(kShape));
    CheckForms(region, layer, EvenMap(DefaultPlacement(kShape), kShape.num_experts));
  }
}

TEST_CASE("even shares are rendered without repetition", "[native_forms]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  region.MakeReady();

  std::vector<int32_t> slots(8 * 5), counts(8);
  REQUIRE(evenkeel_logical_to_physical(region.get(), 0, 0, 5, slots.data(), counts.data()) == EVENKEEL_OK);
  const auto replicas = Invert(DefaultPlacement(kShape), kShape.num_experts);
  for (int e = 0; e < 8; ++e) CHECK(counts[static_cast<size_t>(e)] == replicas.num_replicas(ExpertId(e)));
  CHECK(evenkeel_logical_to_physical(region.get(), 0, 0, 1, slots.data(), counts.data()) == EVENKEEL_INVALID_ARGUMENT);
}

TEST_CASE("every form follows every map that a step took, and no other", "[native_forms]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  region.MakeReady();
  const auto agent = AgentRegion::Open(region.path());
  REQUIRE(agent.ok());
  Rng rng(3);
  for (uint32_t number = 1; number <= 30; ++number) {
    std::vector<LayerMap> maps;
    for (int layer = 0; layer < 2; ++layer) {
      // Every expert somewhere, the rest at random, some slots blank, shares at random.
      Placement placement;
      for (int s = 0; s < kShape.num_slots(); ++s) {
        const auto any = static_cast<int32_t>(rng.Between(-1, kShape.num_experts - 1));
        placement.expert_of_slot.push_back(ExpertId(s < kShape.num_experts ? s : any));
      }
      rng.Shuffle(placement.expert_of_slot);
      const size_t named = Invert(placement, kShape.num_experts).slots.size();
      std::vector<double> shares(named);
      for (double& share : shares) share = 0.05 + rng.Uniform();
      maps.push_back(SharedMap(placement, kShape.num_experts, shares));
    }
    const auto before = PlacementRead(region, 0);
    REQUIRE(*(*agent)->TryWriteMaps({1, number}, 0, number, maps) == MapsWrite::kWritten);
    CHECK(PlacementRead(region, 0) == before);
    const int64_t ticket = evenkeel_begin_step(region.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL);
    REQUIRE(ticket > 0);
    CHECK(evenkeel_epoch(region.get(), 0) == (uint64_t{1} << 32 | number));
    for (int layer = 0; layer < 2; ++layer) CheckForms(region, layer, maps[static_cast<size_t>(layer)]);
    REQUIRE(evenkeel_end_step(region.get(), 0, ticket) == EVENKEEL_OK);
  }
}

TEST_CASE("the default maps and their digest are those of the planning side for every shape", "[native_forms]") {
  const uint64_t seed = GENERATE(range(1, 40));
  CAPTURE(seed);
  Rng rng(seed);
  const TestDirectory directory;
  evenkeel_options options = SmallOptions(directory);
  options.num_ranks = 1 + static_cast<int>(rng.Below(20));
  options.slots_per_rank = 1 + static_cast<int>(rng.Below(20));
  options.num_experts =
      1 + static_cast<int>(rng.Below(static_cast<uint64_t>(options.num_ranks * options.slots_per_rank)));
  options.rank = static_cast<int>(rng.Below(static_cast<uint64_t>(options.num_ranks)));
  TestRegion region(options);
  region.MakeReady();
  const auto agent = AgentRegion::Open(region.path());
  REQUIRE(agent.ok());

  const auto content = (*agent)->ReadContent();

  REQUIRE(content.ok());
  const Shape shape{
      .num_experts = options.num_experts, .num_ranks = options.num_ranks, .slots_per_rank = options.slots_per_rank};
  const LayerMap expected = EvenMap(DefaultPlacement(shape), shape.num_experts);
  for (const LayerMap& map : content->maps) CHECK(map == expected);
  const std::vector<uint64_t> digests(2, DigestOf(expected));
  CHECK(content->maps_digest == algos::DigestOf(digests));
  for (int slot = 0; slot < shape.slots_per_rank; ++slot) {
    const ExpertId expert = DefaultPlacement(shape).expert_of_slot[shape.SlotAt(RankId(options.rank), slot).idx()];
    CHECK(evenkeel_initial_expert(region.get(), 0, slot) == expert.value());
  }
}

TEST_CASE("the initial maps of 256 experts on 16 ranks, with 16 redundant slots and with none", "[native_forms]") {
  const int slots_per_rank = GENERATE(17, 16);
  const TestDirectory directory;
  evenkeel_options options = SmallOptions(directory);
  options.rank = 15;
  options.num_ranks = 16;
  options.num_experts = 256;
  options.slots_per_rank = slots_per_rank;
  TestRegion region(options);

  for (int slot = 0; slot < 16; ++slot) CHECK(evenkeel_initial_expert(region.get(), 0, slot) == 240 + slot);
  CHECK(evenkeel_initial_expert(region.get(), 0, 16) == (slots_per_rank == 17 ? 0 : EVENKEEL_INVALID_ARGUMENT));
}

}  // namespace evenkeel::engine
