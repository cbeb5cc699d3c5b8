// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/base/rng.h"
#include "algos/dispatch/rank_tables.h"
#include "algos/layer_map.h"
#include "algos/placement.h"
#include "engine/evenkeel.h"
#include "engine/region/agent_region.h"
#include "tests/engine/test_region.h"

namespace evenkeel::engine {
namespace {

using algos::LayerMap;
using algos::Placement;
using algos::RoutePreference;
using algos::Shape;
using algos::StaticRule;

constexpr Shape kShape{.num_experts = 8, .num_ranks = 4, .slots_per_rank = 3};
constexpr int32_t kWidth = 64;

LayerMap RandomMap(Rng& rng) {
  Placement placement;
  for (int s = 0; s < kShape.num_slots(); ++s) {
    placement.expert_of_slot.push_back(
        ExpertId(s < kShape.num_experts ? s : static_cast<int>(rng.Below(kShape.num_experts))));
  }
  rng.Shuffle(placement.expert_of_slot);
  std::vector<double> shares(static_cast<size_t>(kShape.num_slots()));
  for (double& share : shares) share = 0.05 + rng.Uniform();
  return algos::SharedMap(placement, kShape.num_experts, shares);
}

// What the region's calls give every rank, against the planning side's tables.
void CheckTables(const TestRegion& region, const LayerMap& map, const algos::Surroundings& around,
                 evenkeel_dispatch dispatch, std::vector<uint64_t>& work) {
  const auto maps = RankMapsOf(map, kShape, static_cast<RoutePreference>(dispatch.prefer), around);
  const auto tables = StaticTablesOf(map, kShape, LayerId(1), static_cast<StaticRule>(dispatch.prefer), around, 7);
  for (int rank = 0; rank < kShape.num_ranks; ++rank) {
    dispatch.rank = rank;
    std::vector<int32_t> slots(8 * kWidth, 77), counts(8, 77), chosen(8, 77);
    REQUIRE(evenkeel_rank_logical_to_physical(region.get(), 0, 1, &dispatch, kWidth, work.data(), slots.data(),
                                              counts.data()) == EVENKEEL_OK);
    REQUIRE(evenkeel_static_dispatch(region.get(), 0, 1, &dispatch, work.data(), chosen.data()) == EVENKEEL_OK);
    const LayerMap& own = maps[static_cast<size_t>(rank)];
    for (int e = 0; e < 8; ++e) {
      CAPTURE(rank, e);
      CHECK(chosen[static_cast<size_t>(e)] == tables[static_cast<size_t>(rank * 8 + e)]);
      int num_entries = 0;
      for (int i = 0; i < own.num_replicas(ExpertId(e)); ++i) {
        int times = 0;
        for (int at = 0; at < counts[static_cast<size_t>(e)]; ++at) {
          times +=
              slots[static_cast<size_t>(e * kWidth + at)] == own.slots_of(ExpertId(e))[static_cast<size_t>(i)].value();
        }
        num_entries += times;
        const double share = static_cast<double>(own.ShareUnits(ExpertId(e), i)) / 0x1.0p32;
        CHECK(std::abs(static_cast<double>(times) / counts[static_cast<size_t>(e)] - share) < 2.0 / kWidth);
      }
      CHECK(num_entries == counts[static_cast<size_t>(e)]);
    }
  }
}

}  // namespace

TEST_CASE("a rank's tables are those of the planning side, whatever is preferred and avoided", "[dispatch]") {
  const uint64_t seed = GENERATE(range(uint64_t{1}, uint64_t{20}));
  CAPTURE(seed);
  Rng rng(seed);
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  region.MakeReady();
  const auto agent = AgentRegion::Open(region.path());
  REQUIRE(agent.ok());
  const std::vector<LayerMap> maps = {RandomMap(rng), RandomMap(rng)};
  REQUIRE(*(*agent)->TryWriteMaps({1, 1}, 0, 1, maps) == MapsWrite::kWritten);
  const int64_t ticket = evenkeel_begin_step(region.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL);
  REQUIRE(ticket > 0);
  std::vector<uint64_t> work((evenkeel_dispatch_work_bytes(region.get()) + 7) / 8);
  algos::Surroundings around{.hosts = {5, 9, 5, 2}};
  const std::vector<uint32_t> avoid = {0, 1, 0, 0};
  evenkeel_dispatch dispatch = {};
  dispatch.hosts = around.hosts.data();
  dispatch.seed = 7;
  for (const evenkeel_prefer prefer : {EVENKEEL_PREFER_NONE, EVENKEEL_PREFER_NEAR, EVENKEEL_PREFER_REMOTE}) {
    dispatch.prefer = prefer;
    CheckTables(region, maps[1], around, dispatch, work);
  }
  around.avoided = {0, 1, 0, 0};
  around.traffic = {100, 0, 30, 7};
  dispatch.avoid = avoid.data();
  dispatch.traffic = around.traffic.data();
  for (const evenkeel_prefer prefer : {EVENKEEL_PREFER_NONE, EVENKEEL_PREFER_NEAR, EVENKEEL_PREFER_REMOTE}) {
    dispatch.prefer = prefer;
    CheckTables(region, maps[1], around, dispatch, work);
  }
  REQUIRE(evenkeel_end_step(region.get(), 0, ticket) == EVENKEEL_OK);
}

TEST_CASE("what cannot be asked for is refused", "[dispatch]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  region.MakeReady();
  std::vector<uint64_t> work((evenkeel_dispatch_work_bytes(region.get()) + 7) / 8);
  std::vector<int32_t> slots(8);
  evenkeel_dispatch dispatch = {};
  dispatch.rank = -1;
  CHECK(evenkeel_static_dispatch(region.get(), 0, 0, &dispatch, work.data(), slots.data()) == EVENKEEL_OK);
  for (int32_t slot : slots) CHECK(slot >= 0);
  CHECK(evenkeel_static_dispatch(region.get(), 0, 0, nullptr, work.data(), slots.data()) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_static_dispatch(region.get(), 0, 0, &dispatch, nullptr, slots.data()) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_static_dispatch(region.get(), 0, 2, &dispatch, work.data(), slots.data()) ==
        EVENKEEL_INVALID_ARGUMENT);
  dispatch.rank = 4;
  CHECK(evenkeel_static_dispatch(region.get(), 0, 0, &dispatch, work.data(), slots.data()) ==
        EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_dispatch_work_bytes(nullptr) == 0);
}

}  // namespace evenkeel::engine
