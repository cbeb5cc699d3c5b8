// SPDX-License-Identifier: Apache-2.0
//
// What an agent sees of steps on a stream, the GPU's words being stored by the test; and what the calls refuse where no
// GPU was opened. tests/gpu/stream_steps_test.cc has the same with a GPU.
#include <cstdint>
#include <string>

#include "catch2/catch.hpp"

#include "engine/evenkeel_cuda.h"
#include "engine/region/agent_region.h"
#include "engine/region/hand_over.h"
#include "engine/region/region_view.h"
#include "tests/engine/engine_and_agent.h"

namespace evenkeel::engine {
namespace {

RegionView ViewOf(const EngineAndAgent& both) {
  auto view = RegionView::Open(both.region.path().c_str(), SharedMemory::Access::kReadWrite);
  REQUIRE(view.ok());
  return std::move(view.value);
}

}  // namespace

TEST_CASE("a step on a stream is open until the GPU has told its end", "[stream_steps]") {
  const TestDirectory directory;
  EngineAndAgent both(SmallOptions(directory));
  RegionView view = ViewOf(both);
  LaneCell& lane = view.lane(0);
  BeginStreamStep(view, lane, 3, 67, 1, LaneCell::kChoosing, 1);
  lane.copies_done.Store(1);
  both.Write(1);
  CHECK(both.agent->ReadQuiesced().epoch == Epoch{});
  CHECK_FALSE(both.agent->ReadStatus().idle);
  CHECK(both.agent->ReadStatus().oldest_open_step > absl::ZeroDuration());
  lane.tickets[3].done.Store(66);  // of a step before
  CHECK(both.agent->ReadQuiesced().epoch == Epoch{});
  lane.tickets[3].done.Store(67);
  CHECK(both.agent->ReadQuiesced().epoch == Epoch{1, 1});
  CHECK(both.agent->ReadStatus().oldest_open_step == absl::ZeroDuration());
}

TEST_CASE("a bank is not written before the GPU has copied it, whatever the lane took since", "[stream_steps]") {
  const TestDirectory directory;
  EngineAndAgent both(SmallOptions(directory));
  RegionView view = ViewOf(both);
  LaneCell& lane = view.lane(0);
  const auto begin = [&](uint64_t ticket, uint64_t copy) {
    BeginStreamStep(view, lane, static_cast<int>(ticket), ticket, 1, LaneCell::kChoosing, copy);
  };
  begin(1, 1);  // of bank 0
  both.Write(1);
  begin(2, 2);
  both.Write(2);  // the third bank: the first two have copies under way
  CHECK(*both.agent->TryWriteMaps({1, 3}, 0, 5, Maps()) == MapsWrite::kNoBankFree);
  begin(3, 3);
  CHECK(*both.agent->TryWriteMaps({1, 3}, 0, 5, Maps()) == MapsWrite::kNoBankFree);
  lane.copies_done.Store(1);
  both.Write(3);  // where the first was
  CHECK(*both.agent->TryWriteMaps({1, 4}, 0, 5, Maps()) == MapsWrite::kNoBankFree);
  lane.copies_done.Store(3);
  both.Write(4);
  CHECK(both.agent->ReadQuiesced().epoch == Epoch{});
  for (const int ticket : {1, 2, 3}) lane.tickets[ticket].done.Store(static_cast<uint64_t>(ticket));
  CHECK(both.agent->ReadQuiesced().epoch == Epoch{1, 4});
}

TEST_CASE("maps that the lane's tables have take no bank again", "[stream_steps]") {
  const TestDirectory directory;
  EngineAndAgent both(SmallOptions(directory));
  RegionView view = ViewOf(both);
  LaneCell& lane = view.lane(0);
  const TakenMaps taken = BeginStreamStep(view, lane, 1, 1, 1, LaneCell::kChoosing, 1);
  lane.copies_done.Store(1);
  const TakenMaps again = BeginStreamStep(view, lane, 2, 2, 1, taken.newest, 2);
  CHECK(again.newest == taken.newest);
  CHECK(lane.copy_of_bank[BankOf(taken.newest)].Load() == 1);
}

TEST_CASE("calls on a stream need a GPU that was opened", "[stream_steps]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  evenkeel_error error = {};
  CHECK(evenkeel_open_device(region.get(), 0, &error) == EVENKEEL_FAILED_PRECONDITION);
  CHECK_THAT(std::string(error.message), Catch::Contains("after ready"));
  region.MakeReady();
  CHECK(evenkeel_begin_step_on(region.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL, nullptr) ==
        EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_begin_step_on(region.get(), 7, EVENKEEL_DECODE, EVENKEEL_REAL, nullptr) == EVENKEEL_INVALID_ARGUMENT);
  int32_t slot = 0;
  CHECK(evenkeel_route_on(region.get(), 0, 0, &slot, 4, 1, 1, 1, 0, &slot, nullptr) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_route_on(region.get(), 0, 0, &slot, 2, 1, 1, 1, 0, &slot, nullptr) == EVENKEEL_INVALID_ARGUMENT);
  CHECK(evenkeel_add_counts_on(region.get(), 0, 0, &slot, 4, 0, nullptr) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_push_lost(region.get()) == EVENKEEL_FAILED_PRECONDITION);
  const int64_t ticket = evenkeel_begin_step(region.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL);
  CHECK(evenkeel_end_step_on(region.get(), 0, ticket, nullptr) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_end_step(region.get(), 0, ticket) == EVENKEEL_OK);
  CHECK(evenkeel_open_device(region.get(), 1000, &error) == EVENKEEL_FAILED_PRECONDITION);
}

}  // namespace evenkeel::engine
