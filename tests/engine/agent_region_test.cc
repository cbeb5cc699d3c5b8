// SPDX-License-Identifier: Apache-2.0
#include "engine/region/agent_region.h"

#include <algorithm>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "engine/region/layout.h"
#include "engine/region/region_view.h"
#include "tests/engine/engine_and_agent.h"
#include "tests/engine/test_region.h"

namespace evenkeel::engine {
namespace {

constexpr int kSlot = 4;  // of rank 1, local slot 1

}  // namespace

TEST_CASE("an agent finds in a fresh region what the engine put there", "[agent_region]") {
  const TestDirectory directory;
  EngineAndAgent pair(SmallOptions(directory));
  const auto content = pair.agent->ReadContent();

  REQUIRE(content.ok());
  CHECK(content->group.name == "test");
  CHECK(content->group.model == "model");
  CHECK(content->group.weights_version == 7);
  CHECK(content->group.shape == kShape);
  CHECK(content->group.num_layers == 2);
  CHECK(content->group.expert_bytes == TestRegion::kExpertBytes + TestRegion::kScaleBytes);
  CHECK(content->group.manifest_digest != 0);
  CHECK(content->member == Member{RankId(1), evenkeel_incarnation(pair.region.get())});
  CHECK(content->epoch == Epoch{});
  CHECK(content->view == View{});
  REQUIRE(content->slots.size() == 6);
  for (int i = 0; i < 6; ++i) {
    const SlotRecord& slot = content->slots[static_cast<size_t>(i)];
    CHECK(slot.state == SlotState::kVerified);
    CHECK(slot.expert == ExpertId(evenkeel_initial_expert(pair.region.get(), i / 3, i % 3)));
    CHECK(slot.generation == 1);
    CHECK(slot.fingerprint == pair.agent->FingerprintSlot(LayerId(i / 3), SlotIdx(3 + i % 3)));
  }
  CHECK_FALSE(pair.agent->had_agent_before());
}

TEST_CASE("equal experts have equal fingerprints on all ranks, other contents and versions have others",
          "[agent_region]") {
  const TestDirectory directory;
  evenkeel_options options = SmallOptions(directory);
  EngineAndAgent first(options);
  options.rank = 0;
  EngineAndAgent other_rank(options);
  options.weights_version = 8;
  EngineAndAgent other_version(options);
  // Rank 0 holds experts 0, 1, 2; rank 1 holds 2, 3, 4.
  CHECK(first.agent->group().manifest_digest == other_rank.agent->group().manifest_digest);
  const uint64_t fingerprint = first.agent->FingerprintSlot(LayerId(0), SlotIdx(3));
  CHECK(other_rank.agent->FingerprintSlot(LayerId(0), SlotIdx(2)) == fingerprint);
  CHECK(other_rank.agent->FingerprintSlot(LayerId(0), SlotIdx(1)) != fingerprint);
  CHECK(other_rank.agent->FingerprintSlot(LayerId(1), SlotIdx(2)) != fingerprint);
  CHECK(other_version.agent->FingerprintSlot(LayerId(0), SlotIdx(2)) != fingerprint);
}

TEST_CASE("a second agent for a rank is refused, a successor finds the state of the first", "[agent_region]") {
  const TestDirectory directory;
  EngineAndAgent pair(SmallOptions(directory));
  const auto second = AgentRegion::Open(pair.region.path());
  CHECK(second.status().code() == absl::StatusCode::kAlreadyExists);
  CHECK_THAT(std::string(second.status().message()), Catch::Contains("two agents for one rank"));

  pair.Write(3);
  pair.agent->StoreTerm(9);
  const View view{.number = 5, .members = {{RankId(0), 11}, {RankId(1), 12}}};
  pair.agent->StoreView(view);
  const SlotRecord record{.state = SlotState::kWriting, .expert = ExpertId(6), .generation = 2, .fingerprint = 1};
  pair.agent->StoreSlot(LayerId(1), SlotIdx(kSlot), record);
  pair.agent.reset();
  const auto successor = AgentRegion::Open(pair.region.path());

  REQUIRE(successor.ok());
  CHECK((*successor)->had_agent_before());
  const auto content = (*successor)->ReadContent();
  REQUIRE(content.ok());
  CHECK(content->epoch == Epoch{1, 3});
  CHECK(content->maps_digest == 5);
  CHECK(content->maps == Maps());
  CHECK(content->term_obeyed == 9);
  CHECK(content->view == view);
  CHECK(content->slots[3 + kSlot - 3] == record);
  CHECK(content->quiesced == Quiescence{{1, 3}, 5});
}

TEST_CASE("maps that do not fit or are not newer are refused", "[agent_region]") {
  const TestDirectory directory;
  EngineAndAgent pair(SmallOptions(directory));
  pair.Write(2);
  const auto write = [&pair](uint32_t number, const std::vector<algos::LayerMap>& maps) {
    return pair.agent->TryWriteMaps({1, number}, 0, 5, maps).status().code();
  };
  CHECK(write(2, Maps()) == absl::StatusCode::kFailedPrecondition);
  CHECK(write(1, Maps()) == absl::StatusCode::kFailedPrecondition);
  CHECK(write(3, {Maps()[0]}) == absl::StatusCode::kInvalidArgument);
  std::vector<algos::LayerMap> outside = Maps();
  outside[1].slots.back() = SlotIdx(12);
  CHECK(write(3, outside) == absl::StatusCode::kInvalidArgument);
  CHECK(write(3, Maps()) == absl::StatusCode::kOk);
}

TEST_CASE("an idle engine is quiescent at maps it has not taken; an open step holds its epoch", "[agent_region]") {
  const TestDirectory directory;
  EngineAndAgent pair(SmallOptions(directory));
  pair.Write(1);
  CHECK(pair.agent->ReadQuiesced().epoch == Epoch{1, 1});
  const int64_t older = pair.Begin();
  pair.Write(2);
  CHECK(pair.agent->ReadQuiesced().epoch == Epoch{1, 1});
  const int64_t newer = pair.Begin();
  CHECK(evenkeel_epoch(pair.region.get(), 0) == Epoch{1, 2}.packed());
  CHECK(pair.agent->ReadQuiesced().epoch == Epoch{1, 1});
  pair.End(older);
  CHECK(pair.agent->ReadQuiesced().epoch == Epoch{1, 2});
  pair.Write(3);
  REQUIRE(evenkeel_abort_step(pair.region.get(), 0, newer) == EVENKEEL_OK);
  CHECK(pair.agent->ReadQuiesced().epoch == Epoch{1, 3});
}

TEST_CASE("an open step keeps its bank and the agent still writes map after map", "[agent_region]") {
  const TestDirectory directory;
  evenkeel_options options = SmallOptions(directory);
  options.num_lanes = 2;
  EngineAndAgent pair(options);
  const int64_t ticket = pair.Begin(0);
  for (uint32_t number = 1; number < 50; ++number) {
    pair.Write(number);
    const int64_t other = pair.Begin(1);
    CHECK(evenkeel_epoch(pair.region.get(), 1) == Epoch{1, number}.packed());
    pair.End(other, 1);
    CHECK(evenkeel_epoch(pair.region.get(), 0) == 0);
    CHECK(pair.agent->ReadQuiesced().epoch == Epoch{});
  }
  pair.End(ticket, 0);
  CHECK(pair.agent->ReadQuiesced().epoch == Epoch{1, 49});
}

TEST_CASE("a step that is just beginning holds the agent, and nothing else", "[agent_region]") {
  const TestDirectory directory;
  EngineAndAgent pair(SmallOptions(directory));
  pair.Write(1);
  CHECK(pair.agent->ReadQuiesced().epoch == Epoch{1, 1});
  const auto view = RegionView::Open(pair.region.path().c_str(), SharedMemory::Access::kReadWrite);
  REQUIRE(view.ok());
  Word& announced = view.value.lane(0).announced;
  const uint64_t before = announced.Load();

  announced.Store(LaneCell::kChoosing);
  CHECK(*pair.agent->TryWriteMaps({1, 2}, 0, 5, Maps()) == MapsWrite::kNoBankFree);
  CHECK(pair.agent->ReadQuiesced().epoch == Epoch{1, 1});
  announced.Store(before);
  CHECK(*pair.agent->TryWriteMaps({1, 2}, 0, 5, Maps()) == MapsWrite::kWritten);
}

TEST_CASE("a view holds until steps and serving under older ones have ended", "[agent_region]") {
  const TestDirectory directory;
  EngineAndAgent pair(SmallOptions(directory));
  const int64_t ticket = pair.Begin();
  pair.agent->StoreView({.number = 1, .members = {{RankId(0), 10}, {RankId(1), 11}, {RankId(2), 12}, {RankId(3), 13}}});
  CHECK(pair.agent->ReadQuiesced().view_number == 0);
  pair.End(ticket);
  CHECK(pair.agent->ReadQuiesced().view_number == 1);

  CHECK(evenkeel_serve_begin(pair.region.get(), 0, 0, 99) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_serve_begin(pair.region.get(), 0, 0, 10) == EVENKEEL_OK);
  pair.agent->StoreView({.number = 2, .members = {{RankId(1), 11}, {RankId(2), 12}, {RankId(3), 13}}});
  CHECK(pair.agent->ReadQuiesced().view_number == 1);
  CHECK(evenkeel_serve_end(pair.region.get(), 0) == EVENKEEL_OK);
  CHECK(pair.agent->ReadQuiesced().view_number == 2);
  CHECK(evenkeel_serve_begin(pair.region.get(), 0, 0, 10) == EVENKEEL_FAILED_PRECONDITION);
  CHECK(evenkeel_serve_begin(pair.region.get(), 0, 2, 12) == EVENKEEL_OK);
  pair.agent->StoreView({.number = 1, .members = {}});
  CHECK(pair.agent->ReadContent()->view.number == 2);
}

TEST_CASE("lost ranks are seen and passed over in mid-step; a newcomer waits for maps that name its view",
          "[agent_region]") {
  const TestDirectory directory;
  evenkeel_options options = SmallOptions(directory);
  options.count_place = EVENKEEL_COUNT_ROUTER;
  EngineAndAgent pair(options);
  const View all{.number = 1, .members = {{RankId(0), 10}, {RankId(1), 11}, {RankId(2), 12}, {RankId(3), 13}}};
  const View without_3{.number = 2, .members = {{RankId(0), 10}, {RankId(1), 11}, {RankId(2), 12}}};
  const View with_newcomer{.number = 3,
                           .members = {{RankId(0), 10}, {RankId(1), 11}, {RankId(2), 12}, {RankId(3), 99}}};
  pair.agent->StoreView(all);
  pair.Write(1, 1);
  const auto* lost = evenkeel_lost_ranks(pair.region.get());
  // Expert 0 is on ranks 0 and 3, expert 7 on rank 3 alone.
  const auto route = [&pair](int32_t expert) {
    std::vector<int32_t> ids(100, expert), slots(100);
    REQUIRE(evenkeel_route(pair.region.get(), 0, 0, ids.data(), 4, 100, 1, 1, 0, slots.data()) == EVENKEEL_OK);
    std::sort(slots.begin(), slots.end());
    slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
    return slots;
  };
  int64_t ticket = pair.Begin();
  CHECK(route(0) == std::vector<int32_t>{0, 11});
  pair.agent->StoreView(without_3);
  CHECK(lost[3] == 1);
  CHECK(route(0) == std::vector<int32_t>{0});
  CHECK(route(7) == std::vector<int32_t>{-1});
  pair.agent->StoreView(with_newcomer);
  CHECK(lost[3] == 0);
  CHECK(route(0) == std::vector<int32_t>{0});
  pair.End(ticket);
  ticket = pair.Begin();
  CHECK(route(0) == std::vector<int32_t>{0});
  pair.End(ticket);
  pair.Write(2, 3);
  ticket = pair.Begin();
  CHECK(route(0) == std::vector<int32_t>{0, 11});
  CHECK(route(7) == std::vector<int32_t>{10});
  pair.End(ticket);
  CHECK(pair.agent->ReadCounters().num_unrouted_tokens == 100);
}

TEST_CASE("post-move requests are called back at begin_step or set_idle, once each", "[agent_region]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  std::vector<std::string> calls;
  const auto record = [](void* context, int32_t layer, int32_t slot, int32_t expert) {
    static_cast<std::vector<std::string>*>(context)->push_back(std::to_string(layer) + "/" + std::to_string(slot) +
                                                               "/" + std::to_string(expert));
  };
  REQUIRE(evenkeel_on_post_move(region.get(), record, &calls) == EVENKEEL_OK);
  region.MakeReady();
  const auto agent = AgentRegion::Open(region.path());
  REQUIRE(agent.ok());
  CHECK((*agent)->has_post_move());
  (*agent)->StoreSlot(LayerId(1), SlotIdx(kSlot),
                      {.state = SlotState::kWriting, .expert = ExpertId(6), .generation = 2});
  (*agent)->RequestPostMove(LayerId(1), SlotIdx(kSlot), 2);
  CHECK_FALSE((*agent)->PostMoveAcknowledged(LayerId(1), SlotIdx(kSlot), 2));
  const int64_t ticket = evenkeel_begin_step(region.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL);
  CHECK((*agent)->PostMoveAcknowledged(LayerId(1), SlotIdx(kSlot), 2));
  REQUIRE(evenkeel_end_step(region.get(), 0, ticket) == EVENKEEL_OK);
  (*agent)->StoreSlot(LayerId(0), SlotIdx(3), {.state = SlotState::kWriting, .expert = ExpertId(2), .generation = 7});
  (*agent)->RequestPostMove(LayerId(0), SlotIdx(3), 7);
  REQUIRE(evenkeel_set_idle(region.get(), 0) == EVENKEEL_OK);
  REQUIRE(evenkeel_set_idle(region.get(), 0) == EVENKEEL_OK);
  CHECK((*agent)->PostMoveAcknowledged(LayerId(0), SlotIdx(3), 7));
  CHECK(calls == std::vector<std::string>{"1/1/6", "0/0/2"});
}

TEST_CASE("a post-move request whose move was given up is not called back", "[agent_region]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  std::vector<int32_t> experts;
  const auto record = [](void* context, int32_t, int32_t, int32_t expert) {
    static_cast<std::vector<int32_t>*>(context)->push_back(expert);
  };
  REQUIRE(evenkeel_on_post_move(region.get(), record, &experts) == EVENKEEL_OK);
  region.MakeReady();
  const auto agent = AgentRegion::Open(region.path());
  REQUIRE(agent.ok());
  const auto store = [&agent](SlotState state, ExpertId expert, uint64_t generation) {
    (*agent)->StoreSlot(LayerId(1), SlotIdx(kSlot), {.state = state, .expert = expert, .generation = generation});
  };
  store(SlotState::kWriting, ExpertId(6), 2);
  (*agent)->RequestPostMove(LayerId(1), SlotIdx(kSlot), 2);
  store(SlotState::kFree, kNoExpert, 2);
  REQUIRE(evenkeel_set_idle(region.get(), 0) == EVENKEEL_OK);
  store(SlotState::kWriting, ExpertId(5), 3);
  (*agent)->RequestPostMove(LayerId(1), SlotIdx(kSlot), 3);
  REQUIRE(evenkeel_set_idle(region.get(), 0) == EVENKEEL_OK);
  CHECK((*agent)->PostMoveAcknowledged(LayerId(1), SlotIdx(kSlot), 3));
  CHECK(experts == std::vector<int32_t>{5});
}

TEST_CASE("without a post-move callback requests count as acknowledged", "[agent_region]") {
  const TestDirectory directory;
  EngineAndAgent pair(SmallOptions(directory));
  pair.agent->RequestPostMove(LayerId(0), SlotIdx(3), 2);
  CHECK(pair.agent->PostMoveAcknowledged(LayerId(0), SlotIdx(3), 2));
}

TEST_CASE("the status tells which calls were made, what is waited for and what is leased", "[agent_region]") {
  const TestDirectory directory;
  EngineAndAgent pair(SmallOptions(directory));
  EngineStatus status = pair.agent->ReadStatus();
  CHECK(status.alive);
  CHECK_FALSE((status.idle || status.called_begin_step || status.called_end_step || status.called_route));
  const int64_t ticket = pair.Begin();
  REQUIRE(evenkeel_report_waiting(pair.region.get(), 0, 2) == EVENKEEL_OK);
  status = pair.agent->ReadStatus();
  CHECK((status.called_begin_step && !status.called_end_step && !status.called_route));
  CHECK(status.waiting_for == std::vector<RankId>{RankId(2)});
  CHECK(status.oldest_open_step > absl::ZeroDuration());
  REQUIRE(evenkeel_busy_lease(pair.region.get(), 100) == EVENKEEL_OK);
  CHECK(pair.agent->BusyLeaseLeft() > absl::Seconds(90));
  CHECK(pair.agent->ReadStatus().busy_lease > absl::Seconds(90));
  CHECK(pair.agent->ReadStatus().oldest_open_step == absl::ZeroDuration());
  CHECK(evenkeel_busy_lease(pair.region.get(), -1) == EVENKEEL_INVALID_ARGUMENT);
  REQUIRE(evenkeel_report_waiting(pair.region.get(), 0, -1) == EVENKEEL_OK);
  pair.End(ticket);
  REQUIRE(evenkeel_set_idle(pair.region.get(), 0) == EVENKEEL_OK);
  status = pair.agent->ReadStatus();
  CHECK((status.idle && status.called_end_step && status.waiting_for.empty()));
  CHECK(status.num_steps == 1);
  CHECK(status.num_calls_waited == 0);
  REQUIRE(evenkeel_report_calls_waited(pair.region.get(), 7) == EVENKEEL_OK);
  CHECK(pair.agent->ReadStatus().num_calls_waited == 7);
  CHECK(evenkeel_report_calls_waited(nullptr, 7) == EVENKEEL_INVALID_ARGUMENT);
  CHECK_FALSE(status.leaving);
  REQUIRE(evenkeel_leave(pair.region.get()) == EVENKEEL_OK);
  CHECK(pair.agent->ReadStatus().leaving);
}

TEST_CASE("a peer's region is read by rank and incarnation", "[agent_region]") {
  const TestDirectory directory;
  EngineAndAgent pair(SmallOptions(directory));
  const Member member = pair.agent->member();
  const auto peer = PeerRegion::Open(pair.region.path(), member);
  REQUIRE(peer.ok());
  CHECK((*peer)->EngineAlive());
  CHECK((*peer)->ReadSlot(LayerId(1), 1) == pair.agent->ReadSlot(LayerId(1), SlotIdx(kSlot)));
  const auto theirs = (*peer)->SlotBytes(LayerId(1), 1);
  const auto ours = pair.agent->SlotBytes(LayerId(1), SlotIdx(kSlot));
  REQUIRE(theirs.size() == 2);
  REQUIRE(theirs[0].size() == TestRegion::kExpertBytes);
  REQUIRE(theirs[1].size() == TestRegion::kScaleBytes);
  ours[1][3] = std::byte{0x5A};
  CHECK(theirs[1][3] == std::byte{0x5A});
  for (const Member& other : {Member{RankId(1), member.incarnation + 1}, Member{RankId(0), member.incarnation}}) {
    CHECK(PeerRegion::Open(pair.region.path(), other).status().code() == absl::StatusCode::kFailedPrecondition);
  }
}

TEST_CASE("the newest living region of a rank is found", "[agent_region]") {
  const TestDirectory directory;
  evenkeel_options options = SmallOptions(directory);
  CHECK(FindRegion(directory.path(), "test", RankId(1)).status().code() == absl::StatusCode::kNotFound);
  CHECK(FindRegion("/nowhere", "test", RankId(1)).status().code() == absl::StatusCode::kNotFound);
  TestRegion first(options);
  TestRegion second(options);
  options.rank = 2;
  TestRegion other_rank(options);
  CHECK(FindRegion(directory.path(), "test", RankId(1)).value() == second.path());
  CHECK(FindRegion(directory.path(), "tes", RankId(1)).status().code() == absl::StatusCode::kNotFound);
}

}  // namespace evenkeel::engine
