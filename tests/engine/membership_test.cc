// SPDX-License-Identifier: Apache-2.0
//
// Engines that come and go: who may begin steps, which tables they follow, whom they serve.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "catch2/catch.hpp"

#include "tests/engine/engine_and_agent.h"

namespace evenkeel::engine {
namespace {

// Of SmallOptions' world, with room for two ranks more.
evenkeel_options Growing(const TestDirectory& directory) {
  evenkeel_options options = SmallOptions(directory);
  options.ranks_max = 6;
  return options;
}

constexpr algos::Shape kGrowing{.num_experts = 8, .num_ranks = 6, .slots_per_rank = 3};

std::vector<algos::LayerMap> DefaultMapsOf(int world) {
  return std::vector<algos::LayerMap>(2, EvenMap(DefaultPlacement(kGrowing, world), kGrowing.num_experts));
}

View ViewOf(uint64_t number, std::vector<uint64_t> incarnations) {
  View view{.number = number, .members = {}};
  for (size_t rank = 0; rank < incarnations.size(); ++rank) {
    if (incarnations[rank] != 0) view.members.push_back({RankId(static_cast<int32_t>(rank)), incarnations[rank]});
  }
  return view;
}

std::vector<int32_t> SlotsOf(evenkeel_region* region, int32_t expert) {
  std::vector<int32_t> ids(200, expert), slots(200);
  REQUIRE(evenkeel_route(region, 0, 0, ids.data(), 4, 200, 1, 1, 0, slots.data()) == EVENKEEL_OK);
  std::sort(slots.begin(), slots.end());
  slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
  return slots;
}

}  // namespace

TEST_CASE("a group with room to grow serves by the default maps of its first ranks", "[membership]") {
  const TestDirectory directory;
  EngineAndAgent pair(Growing(directory));
  CHECK(pair.agent->group().shape == kGrowing);
  CHECK(pair.agent->group().world == 4);
  const auto content = pair.agent->ReadContent();
  REQUIRE(content.ok());
  CHECK_FALSE(content->joining);
  CHECK(content->maps == DefaultMapsOf(4));
  const auto* lost = evenkeel_lost_ranks(pair.region.get());
  CHECK(std::vector<uint32_t>(lost, lost + 6) == std::vector<uint32_t>{0, 0, 0, 0, 1, 1});
  CHECK(evenkeel_is_member(pair.region.get()) == 1);
  CHECK(evenkeel_member(pair.region.get(), 3) == UINT64_MAX);
  CHECK(evenkeel_member(pair.region.get(), 4) == 0);
  CHECK(evenkeel_serve_begin(pair.region.get(), 0, 4, 44) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_serve_begin(pair.region.get(), 0, 3, 33) == EVENKEEL_OK);
}

TEST_CASE("an engine that joins begins no step before its first view and maps", "[membership]") {
  const TestDirectory directory;
  evenkeel_options options = Growing(directory);
  options.rank = GENERATE(1, 4);
  options.join = 1;
  EngineAndAgent pair(options);
  evenkeel_region* region = pair.region.get();
  const uint64_t incarnation = evenkeel_incarnation(region);
  const auto begin = [region] { return evenkeel_begin_step(region, 0, EVENKEEL_DECODE, EVENKEEL_REAL); };
  const auto content = pair.agent->ReadContent();
  REQUIRE(content.ok());
  CHECK(content->joining);
  for (const SlotRecord& record : content->slots) CHECK(record.state == SlotState::kFree);
  CHECK(evenkeel_initial_expert(region, 0, 0) == -1);
  CHECK(evenkeel_is_member(region) == 0);
  CHECK(begin() == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_serve_begin(region, 0, 0, 10) == EVENKEEL_FAILED_PRECONDITION);

  std::vector<uint64_t> members = {10, 11, 12, 13, 14, 0};
  const auto rank = static_cast<size_t>(options.rank);
  members[rank] = 77;  // another one in its place
  pair.agent->StoreView(ViewOf(8, members));
  CHECK(evenkeel_is_member(region) == 0);
  CHECK(evenkeel_member(region, options.rank) == 77);
  members[rank] = incarnation;
  pair.agent->StoreView(ViewOf(9, members));
  CHECK(begin() == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_serve_begin(region, 0, 0, 10) == EVENKEEL_OK);  // peers may send already
  CHECK(evenkeel_serve_end(region, 0) == EVENKEEL_OK);

  // Waiting engines are quiescent at whatever comes.
  REQUIRE(*pair.agent->TryWriteMaps({1, 5}, 9, 5, DefaultMapsOf(4)) == MapsWrite::kWritten);
  CHECK(pair.agent->ReadQuiesced() == Quiescence{{1, 5}, 9});
  CHECK(evenkeel_is_member(region) == 1);
  const int64_t ticket = begin();
  REQUIRE(ticket > 0);
  CHECK(evenkeel_is_member(region) == 1);
  pair.agent->StoreView(ViewOf(10, {10, 0, 12, 13, 0, 0}));
  CHECK(evenkeel_is_member(region) == 0);
  pair.End(ticket);
}

TEST_CASE("ranks beyond the first are passed over until maps name them", "[membership]") {
  const TestDirectory directory;
  EngineAndAgent pair(Growing(directory));
  evenkeel_region* region = pair.region.get();
  pair.agent->StoreView(ViewOf(1, {10, 11, 12, 13, 14, 0}));
  algos::Placement placement = algos::DefaultPlacement(kGrowing, 4);
  placement.expert_of_slot[12] = ExpertId(0);  // rank 4, beside slots 0 and 11
  const std::vector<algos::LayerMap> maps(2, EvenMap(placement, kGrowing.num_experts));
  REQUIRE(*pair.agent->TryWriteMaps({1, 1}, 0, 5, maps) == MapsWrite::kWritten);
  int64_t ticket = pair.Begin();
  CHECK(SlotsOf(region, 0) == std::vector<int32_t>{0, 11});
  pair.End(ticket);
  REQUIRE(*pair.agent->TryWriteMaps({1, 2}, 1, 5, maps) == MapsWrite::kWritten);
  ticket = pair.Begin();
  CHECK(SlotsOf(region, 0) == std::vector<int32_t>{0, 11, 12});
  pair.End(ticket);
}

TEST_CASE("a step finds a lost rank's experts elsewhere by the newest maps, and holds up what it began with",
          "[membership]") {
  const TestDirectory directory;
  EngineAndAgent pair(SmallOptions(directory));
  evenkeel_region* region = pair.region.get();
  pair.agent->StoreView(ViewOf(1, {10, 11, 12, 13}));
  pair.Write(1, 1);
  const int64_t ticket = pair.Begin();
  pair.agent->StoreView(ViewOf(2, {10, 11, 12}));
  CHECK(SlotsOf(region, 7) == std::vector<int32_t>{-1});  // was on rank 3 alone
  CHECK(evenkeel_reroute(region, 0, ticket) == EVENKEEL_OK);
  CHECK(SlotsOf(region, 7) == std::vector<int32_t>{-1});
  algos::Placement placement = algos::DefaultPlacement(kShape);
  for (size_t slot = 9; slot < 12; ++slot) placement.expert_of_slot[slot] = kNoExpert;
  placement.expert_of_slot[2] = ExpertId(7);
  placement.expert_of_slot[5] = ExpertId(6);
  std::vector<algos::LayerMap> maps(2, EvenMap(placement, kShape.num_experts));
  REQUIRE(*pair.agent->TryWriteMaps({1, 2}, 2, 5, maps) == MapsWrite::kWritten);
  CHECK(SlotsOf(region, 7) == std::vector<int32_t>{-1});
  CHECK(evenkeel_reroute(region, 0, ticket) == EVENKEEL_OK);
  CHECK(SlotsOf(region, 7) == std::vector<int32_t>{2});
  CHECK(evenkeel_epoch(region, 0) == Epoch{1, 2}.packed());
  CHECK(pair.agent->ReadQuiesced() == Quiescence{{1, 1}, 1});
  // The bank that it goes by now is not written over, whatever comes.
  for (uint32_t number = 3; number < 9; ++number) pair.Write(number, 2);
  CHECK(SlotsOf(region, 7) == std::vector<int32_t>{2});
  pair.End(ticket);
  CHECK(pair.agent->ReadQuiesced() == Quiescence{{1, 8}, 2});
}

TEST_CASE("only the newest open step of a lane takes other maps", "[membership]") {
  const TestDirectory directory;
  EngineAndAgent pair(SmallOptions(directory));
  evenkeel_region* region = pair.region.get();
  const int64_t first = pair.Begin(), second = pair.Begin();
  CHECK(evenkeel_reroute(region, 0, first) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_reroute(region, 1, second) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_reroute(region, 0, second) == EVENKEEL_OK);
  pair.End(second);
  CHECK(evenkeel_reroute(region, 0, second) == EVENKEEL_FAILED_PRECONDITION);
  pair.End(first);
}

TEST_CASE("an engine that no view has any more says so", "[membership]") {
  const TestDirectory directory;
  EngineAndAgent pair(SmallOptions(directory));
  const uint64_t incarnation = evenkeel_incarnation(pair.region.get());
  pair.agent->StoreView(ViewOf(1, {10, incarnation, 12, 13}));
  CHECK(evenkeel_is_member(pair.region.get()) == 1);
  pair.agent->StoreView(ViewOf(2, {10, 0, 12, 13}));
  CHECK(evenkeel_is_member(pair.region.get()) == 0);
  CHECK(evenkeel_lost_ranks(pair.region.get())[1] == 1);
  pair.agent->StoreView(ViewOf(3, {10, incarnation + 1, 12, 13}));
  CHECK(evenkeel_is_member(pair.region.get()) == 0);
}

}  // namespace evenkeel::engine
