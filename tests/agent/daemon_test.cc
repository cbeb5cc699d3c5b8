// SPDX-License-Identifier: Apache-2.0
//
// The agent's daemon between a real region and a real gRPC server.
#include "agent/daemon.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "catch2/catch.hpp"

#include "agent/core/map_update.h"
#include "agent/transport_set.h"
#include "algos/layer_map.h"
#include "algos/placement.h"
#include "engine/region/agent_region.h"
#include "runtime/read_pass.h"
#include "tests/agent/fake_controller.h"
#include "tests/engine/test_region.h"

namespace evenkeel::agent {
namespace {

using engine::AgentRegion;
using engine::TestDirectory;
using engine::TestRegion;

constexpr absl::Duration kLong = absl::Seconds(20);

// Two ranks of two layers of 4 experts with 3 slots each: 0 1 2 | 2 3 0.
evenkeel_options OptionsOf(const TestDirectory& directory, int rank) {
  evenkeel_options options = engine::SmallOptions(directory);
  options.rank = rank;
  options.num_ranks = 2;
  options.num_experts = 4;
  return options;
}

std::unique_ptr<Daemon> StartAgent(const std::string& path, const std::string& controller,
                                   const std::string& transport = "local") {
  absl::StatusOr<std::unique_ptr<AgentRegion>> region = AgentRegion::Open(path);
  INFO(region.status().ToString());
  REQUIRE(region.ok());
  auto transports = MakeTransports(**region, {.forced = transport, .fault = "", .host = ""});
  REQUIRE(transports.ok());
  Daemon::Options options;
  options.controller = controller;
  auto daemon = Daemon::Start(options, *std::move(region), *std::move(transports));
  INFO(daemon.status().ToString());
  REQUIRE(daemon.ok());
  return *std::move(daemon);
}

AgentSettings Settings() {
  AgentSettings settings;
  settings.report_interval = absl::Milliseconds(20);
  settings.scrub_interval = absl::Milliseconds(20);
  return settings;
}

// Layer 0 held by `experts`, over the default maps.
MapsUpdate UpdateOf(const GroupInfo& group, Epoch epoch, const std::vector<int>& experts) {
  const std::shared_ptr<const Maps> held = DefaultMaps(group);
  algos::Placement placement;
  for (int expert : experts) placement.expert_of_slot.push_back(ExpertId(expert));
  MapsUpdate update;
  update.epoch = update.base_epoch = epoch;
  std::vector<algos::LayerMap> layers = held->layers;
  layers[0] = algos::EvenMap(placement, group.shape.num_experts);
  for (size_t l = 0; l < layers.size(); ++l) update.layers.emplace_back(LayerId(static_cast<int>(l)), layers[l]);
  update.maps_digest = DigestOf(layers);
  return update;
}

// One engine of rank 1, one agent on it, one controller.
struct Rig {
  TestDirectory directory;
  TestRegion engine{OptionsOf(directory, 1)};
  FakeController controller;
  std::unique_ptr<Daemon> agent;

  explicit Rig(const std::string& transport = "local") {
    engine.MakeReady();
    agent = StartAgent(engine.path(), controller.address(), transport);
  }
  // The agent's Attach, answered.
  Attach Welcome(uint32_t term) {
    const std::optional<Attach> attach = controller.Await<Attach>();
    REQUIRE(attach.has_value());
    REQUIRE(controller.Say(evenkeel::Welcome{.term = term, .settings = Settings()}));
    return *attach;
  }
};

TEST_CASE("an agent attaches with what its region holds and reports load and engine", "[daemon]") {
  Rig rig;
  const Attach attach = rig.Welcome(3);
  CHECK(attach.group.name == "test");
  CHECK(attach.member == Member{RankId(1), evenkeel_incarnation(rig.engine.get())});
  CHECK(attach.epoch == Epoch{});
  REQUIRE(attach.slots.size() == 6);
  CHECK(attach.slots[0].state == SlotState::kVerified);
  CHECK(attach.slots[0].expert == ExpertId(2));
  REQUIRE(attach.endpoints.size() == 1);
  CHECK(attach.endpoints[0].transport == "local");

  const int64_t ticket = evenkeel_begin_step(rig.engine.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL);
  REQUIRE(ticket > 0);
  REQUIRE(evenkeel_count(rig.engine.get(), 0, EVENKEEL_DECODE, 1, 2, 500) == EVENKEEL_OK);
  REQUIRE(evenkeel_end_step(rig.engine.get(), 0, ticket) == EVENKEEL_OK);
  const auto report = rig.controller.Await<LoadReport>([](const LoadReport& m) { return !m.entries.empty(); });
  REQUIRE(report.has_value());
  REQUIRE(report->entries.size() == 1);
  CHECK(report->entries[0] == LoadReport::Entry{LayerId(1), SlotIdx(5), ExpertId(0), 500, 0, 500});
  CHECK(rig.controller.Await<EngineStatus>(
      [](const EngineStatus& m) { return m.alive && m.called_begin_step && m.called_end_step && m.num_steps == 1; }));
}

TEST_CASE("maps reach the engine, and its quiescence the controller, only after the open step has ended", "[daemon]") {
  Rig rig;
  const Attach attach = rig.Welcome(3);
  const int64_t ticket = evenkeel_begin_step(rig.engine.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL);
  REQUIRE(rig.controller.Say(UpdateOf(attach.group, {3, 1}, {0, 1, 2, 2, 3, -1})));
  const auto at_new = [](const Quiesced& m) { return m.epoch == Epoch{3, 1}; };
  CHECK_FALSE(rig.controller.Await<Quiesced>(at_new, absl::Milliseconds(100)));
  REQUIRE(evenkeel_end_step(rig.engine.get(), 0, ticket) == EVENKEEL_OK);
  CHECK(rig.controller.Await<Quiesced>(at_new));
  evenkeel_begin_step(rig.engine.get(), 0, EVENKEEL_DECODE, EVENKEEL_REAL);
  CHECK(evenkeel_epoch(rig.engine.get(), 0) == Epoch{3, 1}.packed());
}

// Has rank 0's expert 1 moved into slot 5 of rank 1; the answer.
std::optional<MoveFinished> MoveOne(Rig& rig, const TestRegion& source, uint64_t fingerprint,
                                    const std::string& transport = "local") {
  const Attach attach = rig.Welcome(3);
  REQUIRE(rig.controller.Say(UpdateOf(attach.group, {3, 1}, {0, 1, 2, 2, 3, -1})));
  REQUIRE(rig.controller.Await<Quiesced>([](const Quiesced& m) { return m.epoch == Epoch{3, 1}; }));
  auto region = AgentRegion::Open(source.path());
  REQUIRE(region.ok());
  const auto transports = MakeTransports(**region, {.forced = transport, .fault = "", .host = ""});
  REQUIRE(transports.ok());
  MoveOrder order;
  order.move_id = 9;
  order.layer = LayerId(0);
  order.expert = ExpertId(1);
  order.slot = SlotIdx(5);
  order.generation = attach.slots[2].generation + 1;
  order.fingerprint = fingerprint == 0 ? (*region)->FingerprintSlot(LayerId(0), SlotIdx(1)) : fingerprint;
  order.retired_since = {3, 1};
  order.sources.push_back({.member = {RankId(0), evenkeel_incarnation(source.get())},
                           .slot = SlotIdx(1),
                           .generation = (*region)->ReadSlot(LayerId(0), SlotIdx(1)).generation,
                           .endpoint = (*transports)[0]->endpoint()});
  order.sources[0].pass = runtime::MakePass(order.sources[0].endpoint.secret, order.retired_since.packed(),
                                            {attach.member.rank.value(), attach.member.incarnation});
  order.deadline = absl::Seconds(10);
  REQUIRE(rig.controller.Say(order));
  return rig.controller.Await<MoveFinished>([](const MoveFinished& m) { return m.move_id == 9; },
                                            fingerprint == 0 ? kLong : absl::Milliseconds(300));
}

TEST_CASE("an expert is moved from another rank's region, verified and reported", "[daemon]") {
  const std::string transport = GENERATE("local", "ucx");
  CAPTURE(transport);
  Rig rig(transport);
  TestRegion source(OptionsOf(rig.directory, 0));
  source.MakeReady();
  const std::optional<MoveFinished> finished = MoveOne(rig, source, 0, transport);
  REQUIRE(finished.has_value());
  CHECK(finished->bytes == TestRegion::kExpertBytes + TestRegion::kScaleBytes);
  int32_t expert = -1, verified = 0;
  uint64_t generation = 0;
  evenkeel_slot_content(rig.engine.get(), 0, 2, &expert, &generation, &verified);
  CHECK(expert == 1);
  CHECK(verified == 1);
  CHECK(generation == finished->generation);
}

TEST_CASE("an engine is suspended once the controller says so, and its next agent tells its slots and version",
          "[daemon]") {
  Rig rig;
  const Attach before = rig.Welcome(3);
  evenkeel_error error = {};
  CHECK(evenkeel_suspend(rig.engine.get(), 0.3, &error) == EVENKEEL_DEADLINE_EXCEEDED);
  REQUIRE(rig.controller.Await<EngineStatus>([](const EngineStatus& m) { return m.suspended; }));
  REQUIRE(rig.controller.Say(SlotsReleased{}));
  REQUIRE(evenkeel_suspend(rig.engine.get(), 20, &error) == EVENKEEL_OK);
  CHECK_FALSE(rig.agent->WaitOver(absl::ZeroDuration()));
  REQUIRE(evenkeel_resume(rig.engine.get(), 8, &error) == EVENKEEL_OK);
  REQUIRE(rig.agent->WaitOver(kLong));
  CHECK(rig.agent->outcome().code() == absl::StatusCode::kAborted);
  rig.agent.reset();
  rig.agent = StartAgent(rig.engine.path(), rig.controller.address());
  const Attach after = rig.Welcome(3);
  CHECK(after.group.weights_version == 8);
  CHECK_FALSE(after.suspended);
  REQUIRE(after.slots.size() == before.slots.size());
  for (size_t i = 0; i < after.slots.size(); ++i) {
    CHECK(after.slots[i].generation == before.slots[i].generation + 1);
    CHECK(after.slots[i].expert == before.slots[i].expert);
    CHECK(after.slots[i].fingerprint != before.slots[i].fingerprint);
  }
}

TEST_CASE("content that does not match is not verified", "[daemon]") {
  Rig rig;
  TestRegion source(OptionsOf(rig.directory, 0));
  source.MakeReady();
  CHECK_FALSE(MoveOne(rig, source, 12345));
  rig.controller.Rewind();
  const auto failed = rig.controller.Await<MoveFailed>();
  REQUIRE(failed.has_value());
  CHECK(failed->status.code() == absl::StatusCode::kDataLoss);
  CHECK(failed->num_mismatches == 1);
  int32_t expert = -1, verified = 1;
  uint64_t generation = 0;
  evenkeel_slot_content(rig.engine.get(), 0, 2, &expert, &generation, &verified);
  CHECK(verified == 0);
}

TEST_CASE("an agent finds a controller that was restarted, and tells it what it holds", "[daemon]") {
  Rig rig;
  const Attach first = rig.Welcome(3);
  REQUIRE(rig.controller.Say(UpdateOf(first.group, {3, 1}, {0, 1, 2, 2, 3, -1})));
  REQUIRE(rig.controller.Await<Quiesced>([](const Quiesced& m) { return m.epoch == Epoch{3, 1}; }));
  const int port = rig.controller.port();
  rig.controller.Stop();
  FakeController successor(port);
  const std::optional<Attach> again = successor.Await<Attach>();
  REQUIRE(again.has_value());
  CHECK(again->term_obeyed == 3);
  CHECK(again->epoch == Epoch{3, 1});
  CHECK(again->quiesced_epoch == Epoch{3, 1});
  // A controller of an older term is left, one of a higher term obeyed.
  REQUIRE(successor.Say(Welcome{.term = 2, .settings = Settings()}));
  REQUIRE(successor.Await<Attach>());
  REQUIRE(successor.Say(Welcome{.term = 4, .settings = Settings()}));
  CHECK(successor.Await<EngineStatus>());
}

TEST_CASE("the engine's end is told to the controller, and is the agent's", "[daemon]") {
  TestDirectory directory;
  auto engine = std::make_unique<TestRegion>(OptionsOf(directory, 1));
  engine->MakeReady();
  FakeController controller;
  const std::unique_ptr<Daemon> agent = StartAgent(engine->path(), controller.address());
  REQUIRE(controller.Await<Attach>());
  REQUIRE(controller.Say(Welcome{.term = 1, .settings = Settings()}));
  REQUIRE(controller.Await<EngineStatus>([](const EngineStatus& m) { return m.alive; }));
  CHECK_FALSE(agent->WaitOver(absl::Milliseconds(50)));
  engine = nullptr;
  CHECK(agent->WaitOver(kLong));
  CHECK(agent->outcome().ok());
  CHECK(controller.Await<EngineStatus>([](const EngineStatus& m) { return !m.alive; }));
}

TEST_CASE("the end of another rank's engine is told to the controller, and to its successor", "[daemon]") {
  Rig rig;
  rig.Welcome(3);
  auto peer = std::make_unique<TestRegion>(OptionsOf(rig.directory, 0));
  peer->MakeReady();
  const Member member{RankId(0), evenkeel_incarnation(peer->get())};
  const Member self{RankId(1), evenkeel_incarnation(rig.engine.get())};
  REQUIRE(rig.controller.Say(ViewUpdate{{.number = 1, .members = {member, self}}}));
  REQUIRE(rig.controller.Await<Quiesced>([](const Quiesced& m) { return m.view_number == 1; }));
  CHECK_FALSE(rig.controller.Await<PeerEnded>([](const PeerEnded&) { return true; }, 2 * PeerWatch::kScan));
  peer = nullptr;
  const auto ended = rig.controller.Await<PeerEnded>();
  REQUIRE(ended.has_value());
  CHECK(ended->member == member);

  const int port = rig.controller.port();
  rig.controller.Stop();
  FakeController successor(port);
  REQUIRE(successor.Await<Attach>());
  REQUIRE(successor.Say(Welcome{.term = 4, .settings = Settings()}));
  CHECK(successor.Await<PeerEnded>());
}

TEST_CASE("the agent is over as soon as its farewell is, not at its next look at the region", "[daemon]") {
  // From the controller's hearing of the end; on a busy machine the best of a few.
  const absl::Duration wanted = Daemon::kFarewell + RegionWatch::kSlow / 4;
  absl::Duration best = absl::InfiniteDuration();
  for (int attempt = 0; attempt < 20 && best > wanted; ++attempt) {
    TestDirectory directory;
    auto engine = std::make_unique<TestRegion>(OptionsOf(directory, 1));
    engine->MakeReady();
    FakeController controller;
    const std::unique_ptr<Daemon> agent = StartAgent(engine->path(), controller.address());
    REQUIRE(controller.Await<Attach>());
    REQUIRE(controller.Say(Welcome{.term = 1, .settings = Settings()}));
    REQUIRE(controller.Await<EngineStatus>([](const EngineStatus& m) { return m.alive; }));
    engine = nullptr;
    REQUIRE(controller.Await<EngineStatus>([](const EngineStatus& m) { return !m.alive; }));
    const absl::Time told = absl::Now();
    REQUIRE(agent->WaitOver(kLong));
    best = std::min(best, absl::Now() - told);
  }
  CHECK(best <= wanted);
}

TEST_CASE("an agent without a controller waits, and ends when told", "[daemon]") {
  TestDirectory directory;
  TestRegion engine(OptionsOf(directory, 1));
  engine.MakeReady();
  const std::unique_ptr<Daemon> agent = StartAgent(engine.path(), "127.0.0.1:1");
  CHECK_FALSE(agent->WaitOver(absl::Milliseconds(200)));
  agent->Stop();
  agent->Stop();
}

TEST_CASE("an agent that takes over frees a slot left in writing, after its predecessor's last writes", "[daemon]") {
  TestDirectory directory;
  TestRegion engine(OptionsOf(directory, 1));
  engine.MakeReady();
  {
    auto region = AgentRegion::Open(engine.path());
    REQUIRE(region.ok());
    SlotRecord record = (*region)->ReadSlot(LayerId(0), SlotIdx(5));
    record.state = SlotState::kWriting;
    ++record.generation;
    (*region)->StoreSlot(LayerId(0), SlotIdx(5), record);
  }
  FakeController controller;
  const absl::Time began = absl::Now();
  const std::unique_ptr<Daemon> agent = StartAgent(engine.path(), controller.address());
  const std::optional<Attach> attach = controller.Await<Attach>();
  REQUIRE(attach.has_value());
  CHECK(absl::Now() - began >= Daemon::kTakeoverWait);
  CHECK(attach->slots[2].state == SlotState::kFree);
}

}  // namespace
}  // namespace evenkeel::agent
