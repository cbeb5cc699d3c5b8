// SPDX-License-Identifier: Apache-2.0
#include "controller/core/coordinator.h"

#include <algorithm>

#include "catch2/catch.hpp"

#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

TEST_CASE("a controller listens, then takes a term above all it heard and welcomes", "[coordinator]") {
  Cluster::Options options = Basic();
  options.settings.stored_term = 3;
  Cluster cluster(options);
  cluster.agents[1].term_obeyed = 7;
  REQUIRE(cluster.coordinator->NextWakeup() == absl::InfinitePast());
  cluster.AttachAll();
  CHECK(cluster.coordinator->listening());
  CHECK_FALSE(cluster.agents[0].welcomed);
  cluster.Run(absl::Milliseconds(499));
  CHECK_FALSE(cluster.agents[0].welcomed);
  cluster.Run(absl::Milliseconds(2));
  CHECK(cluster.coordinator->term() == 8);
  CHECK(cluster.stored_term == 8);
  CHECK(cluster.agents[0].welcomed);
  CHECK(cluster.agents[3].epoch == Epoch{8, 1});
}

TEST_CASE("a higher term heard later makes the controller step down and say nothing more", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  cluster.DetachAgent(2);
  cluster.agents[2].term_obeyed = 9;
  cluster.AttachAgent(2);
  CHECK(cluster.stepped_down == 9u);
  CHECK(cluster.coordinator->stepped_down());
  CHECK(cluster.coordinator->NextWakeup() == absl::InfiniteFuture());
  CHECK(cluster.coordinator->Step(cluster.now, Tick{}).empty());
}

TEST_CASE("an agent that obeys our term but was never welcomed by us has another leader", "[coordinator]") {
  Cluster cluster(Basic());
  cluster.AttachAgent(0);
  cluster.Run(absl::Seconds(1));
  cluster.agents[1].term_obeyed = cluster.coordinator->term();
  cluster.AttachAgent(1);
  CHECK(cluster.coordinator->stepped_down());
}

TEST_CASE("nothing is published before every rank has attached, then the view comes first", "[coordinator]") {
  Cluster cluster(Basic());
  for (int r = 0; r < 3; ++r) cluster.AttachAgent(r);
  cluster.Run(absl::Seconds(5));
  CHECK(cluster.Status().forming);
  CHECK(cluster.updates.empty());
  CHECK(cluster.agents[0].view_number == 0);
  CHECK(cluster.Status().members[3].note == "has not attached yet");
  cluster.AttachAgent(3);
  CHECK(cluster.agents[0].view_number == 1);
  CHECK(cluster.agents[0].epoch == Epoch{1, 1});
  CHECK(cluster.Status().view.members.size() == 4);
}

TEST_CASE("agents of another kind are refused with both values", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  cluster.DetachAgent(3);
  Attach attach = cluster.AttachOf(3);
  std::string expected;
  SECTION("model") {
    attach.group.model = "other";
    expected = "attach: model other, but the group has m";
  }
  SECTION("world size") {
    attach.group.shape.num_ranks = 5;
    expected = "attach: world size 5, but the group has 4";
  }
  SECTION("weights version") {
    attach.group.weights_version = 2;
    attach.member.incarnation += 1;  // a member's may change
    attach.view = View();
    attach.term_obeyed = 0;
    expected = "attach: weights version 2, but the group has 0";
  }
  SECTION("count place") {
    attach.group.count_place = CountPlace::kRouter;
    expected = "attach: count place 1, but the group has 0";
  }
  SECTION("inventory") {
    attach.slots.pop_back();
    expected = "attach: inventory of 5 slots; a rank has 6";
  }
  const Effects effects = cluster.coordinator->Step(cluster.now, AgentMessageReceived{99, attach});
  REQUIRE(effects.size() == 2);
  const auto& sent = std::get<SendToAgent>(effects[0]);
  CHECK(std::get<Refused>(*sent.message).status.message() == expected);
  CHECK(std::get<CloseSession>(effects[1]).session == 99);
  CHECK_FALSE(cluster.Status().forming);
}

TEST_CASE("numbers that leave none to count on are refused, and nobody steps down for them", "[coordinator]") {
  Cluster cluster(Basic());
  cluster.AttachAgent(0);
  cluster.Run(absl::Seconds(1));
  Attach attach = cluster.AttachOf(1);
  SECTION("a term") { attach.term_obeyed = UINT32_MAX; }
  SECTION("a view") { attach.view.number = UINT64_MAX; }
  SECTION("a generation") { attach.slots[0].generation = UINT64_MAX; }
  const Effects effects = cluster.coordinator->Step(cluster.now, AgentMessageReceived{99, attach});
  REQUIRE(effects.size() == 2);
  const auto* refused = std::get_if<Refused>(&*std::get<SendToAgent>(effects[0]).message);
  REQUIRE(refused != nullptr);
  CHECK(absl::IsInvalidArgument(refused->status));
  CHECK_FALSE(cluster.coordinator->stepped_down());
}

TEST_CASE("a publish is one message that all agents share", "[coordinator]") {
  Cluster cluster(Basic());
  cluster.AttachAll();
  cluster.now += absl::Seconds(1);
  std::vector<SharedMessage> views, maps;
  for (const Effect& effect : cluster.coordinator->Step(cluster.now, Tick{})) {
    const auto* send = std::get_if<SendToAgent>(&effect);
    if (send == nullptr) continue;
    if (std::holds_alternative<ViewUpdate>(*send->message)) views.push_back(send->message);
    if (std::holds_alternative<MapsUpdate>(*send->message)) maps.push_back(send->message);
  }
  REQUIRE(views.size() == 4);
  REQUIRE(maps.size() == 4);
  for (const SharedMessage& view : views) CHECK(view.Same(views[0]));
  for (const SharedMessage& update : maps) CHECK(update.Same(maps[0]));
  CHECK_FALSE(maps[0].Same(views[0]));
}

TEST_CASE("a second session for a rank is refused while the first lives", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  Effects effects = cluster.coordinator->Step(cluster.now, AgentMessageReceived{99, cluster.AttachOf(1)});
  CHECK(absl::IsAlreadyExists(std::get<Refused>(*std::get<SendToAgent>(effects[0]).message).status));
  cluster.DetachAgent(1);
  cluster.AttachAgent(1);
  CHECK(cluster.agents[1].welcomed);
  CHECK_FALSE(cluster.agents[1].refused.has_value());
}

TEST_CASE("an agent that speaks of what is not its own is refused, and its rank stays a member", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  LoadReport report;
  report.time = cluster.now;
  report.entries = {{LayerId(0), SlotIdx(0), ExpertId(0), 5}};
  cluster.Send(1, report);
  REQUIRE(cluster.agents[1].refused.has_value());
  CHECK(absl::IsInvalidArgument(*cluster.agents[1].refused));
  CHECK(cluster.Status().members[1].note == "its agent is away");
  CHECK(cluster.Status().totals.tokens == 0);
}

TEST_CASE("a new incarnation waits outside the set; a whole new world starts over", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  const uint64_t view = cluster.Status().view.number;
  const Epoch epoch = cluster.Status().epoch;
  cluster.DetachAgent(2);
  cluster.RestartEngine(2);
  cluster.AttachAgent(2);
  CHECK_FALSE(cluster.agents[2].welcomed);
  CHECK_FALSE(cluster.agents[2].refused.has_value());
  REQUIRE(cluster.Status().waiting.size() == 1);
  CHECK(cluster.Status().view.number == view);
  for (int r : {0, 1, 3}) {
    cluster.DetachAgent(r);
    cluster.RestartEngine(r);
    cluster.AttachAgent(r);
  }
  CHECK(cluster.Status().waiting.empty());
  CHECK_FALSE(cluster.Status().forming);
  CHECK(cluster.Status().view.number == view + 1);
  CHECK(cluster.Status().epoch > epoch);
  CHECK(cluster.agents[2].welcomed);
}

TEST_CASE("a group with nobody attached for long gives way to one of another kind", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  for (int r = 0; r < 4; ++r) cluster.DetachAgent(r);
  Attach attach = cluster.AttachOf(0);
  attach.group.model = "next";
  attach.member.incarnation = 77;
  attach.term_obeyed = 0;
  Effects effects = cluster.coordinator->Step(cluster.now, AgentMessageReceived{98, attach});
  CHECK(std::holds_alternative<Refused>(*std::get<SendToAgent>(effects[0]).message));
  cluster.Run(absl::Seconds(31));
  effects = cluster.coordinator->Step(cluster.now, AgentMessageReceived{99, attach});
  CHECK(std::holds_alternative<Welcome>(*std::get<SendToAgent>(effects[0]).message));
  CHECK(cluster.Status().model == "next");
}

TEST_CASE("a live slot that lost its content leaves the maps at once", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  const GroupMaps maps = *cluster.coordinator->GetMaps(kGroup);
  // Expert 0 has two replicas by the default placement.
  const auto slots = maps.layers[0].map.slots_of(ExpertId(0));
  REQUIRE(slots.size() > 1);
  const SlotIdx slot = slots[0];
  const int rank = cluster.options.shape.RankOf(slot).value();
  cluster.agents[static_cast<size_t>(rank)].slots[static_cast<size_t>(cluster.options.shape.LocalSlot(slot))] =
      SlotRecord();
  cluster.Send(rank, SlotLost{LayerId(0), slot, 0});
  const GroupMaps after = *cluster.coordinator->GetMaps(kGroup);
  CHECK(after.epoch > maps.epoch);
  CHECK(after.layers[0].placement.expert_of_slot[slot.idx()] == kNoExpert);
  CHECK_FALSE(cluster.notes.empty());
}

TEST_CASE("content that is lost while the controller still listens is in none of its maps", "[coordinator]") {
  Cluster cluster(Basic());
  cluster.AttachAll();
  REQUIRE(cluster.coordinator->listening());
  const algos::Replicas replicas = algos::Invert(algos::DefaultPlacement(cluster.options.shape), 8);
  const SlotIdx slot = replicas.slots_of(ExpertId(0))[0];
  const int rank = cluster.options.shape.RankOf(slot).value();
  cluster.agents[static_cast<size_t>(rank)].slots[static_cast<size_t>(cluster.options.shape.LocalSlot(slot))] =
      SlotRecord();
  cluster.Send(rank, SlotLost{LayerId(0), slot, 0});
  cluster.Run(absl::Seconds(1));
  const GroupMaps maps = *cluster.coordinator->GetMaps(kGroup);
  REQUIRE(maps.epoch == Epoch{1, 1});
  CHECK(maps.layers[0].placement.expert_of_slot[slot.idx()] == kNoExpert);
}

TEST_CASE("refused maps are sent again in full", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  FakeAgent& agent = cluster.agents[1];
  agent.epoch = Epoch();  // as if it had kept the default maps
  const size_t updates = cluster.updates.size();
  cluster.Send(1, MapsRefused{{1, 1}, {}, 0, "no bank"});
  REQUIRE(cluster.updates.size() == updates + 1);
  CHECK(cluster.updates.back().base_epoch == cluster.updates.back().epoch);
  CHECK(cluster.Status().totals.maps_refused == 1);

  cluster.Settle();  // it has quiesced at the full maps: what changes is enough again
  cluster.Send(2, SlotLost{LayerId(0), SlotIdx(6), 0});
  REQUIRE(cluster.updates.size() == updates + 5);
  for (size_t i = updates + 1; i < updates + 5; ++i) CHECK(cluster.updates[i].layers.size() == 1);
}

TEST_CASE("replicas that disagree at admission are named, and the expert is not moved", "[coordinator]") {
  Cluster cluster(Basic());
  const algos::Replicas replicas = algos::Invert(algos::DefaultPlacement(cluster.options.shape), 8);
  const SlotIdx second = replicas.slots_of(ExpertId(0))[1];
  const size_t rank = cluster.options.shape.RankOf(second).idx();
  cluster.agents[rank].slots[static_cast<size_t>(cluster.options.shape.LocalSlot(second))].fingerprint = 5;
  Start(cluster);
  CHECK(std::any_of(cluster.notes.begin(), cluster.notes.end(), [](const std::string& note) {
    return note.find("replicas of expert 0 of layer 0 disagree") != std::string::npos &&
           note.find("0000000000000005") != std::string::npos;
  }));
  const GroupMaps maps = *cluster.coordinator->GetMaps(kGroup);
  CHECK(maps.layers[0].map.num_replicas(ExpertId(0)) == 1);
}

TEST_CASE("groups whose maps cannot change say why", "[coordinator]") {
  Cluster::Options options = Basic();
  SECTION("replicated routing") {
    options.routing = Routing::kReplicated;
    Cluster cluster(options);
    cluster.load = Skewed(cluster);
    Start(cluster);
    cluster.Run(absl::Seconds(5));
    CHECK(cluster.updates.empty());
    CHECK(cluster.Status().static_reason.find("several ranks") != std::string::npos);
    CHECK(cluster.Status().view.number == 1);
    cluster.Rearrange("r1");
    CHECK(cluster.StateOf("r1") == "failed");
  }
  SECTION("no redundant slot") {
    options.shape.num_experts = 12;
    Cluster cluster(options);
    cluster.load.assign(2, std::vector<uint64_t>(12, 1000));
    cluster.load[0][0] = 9000;
    Start(cluster);
    cluster.Run(absl::Seconds(5));
    CHECK(cluster.Status().totals.publishes == 1);
    CHECK(cluster.Status().static_reason.find("no redundant slot") != std::string::npos);
    cluster.Rearrange("r1");
    CHECK(cluster.StateOf("r1") == "failed");
  }
}

TEST_CASE("an engine that never calls is named with the missing call", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  EngineStatus status;
  status.called_begin_step = status.called_end_step = true;
  cluster.Send(2, status);
  CHECK(cluster.Status().members[2].missing_calls.empty());
  cluster.Run(absl::Seconds(9));
  REQUIRE(cluster.Status().members[2].missing_calls.size() == 1);
  CHECK(cluster.Status().members[2].missing_calls[0] == "never called route");
  CHECK(cluster.Status().members[1].missing_calls.empty());
}

TEST_CASE("redundancy is reported as slots to spare and ranks that may go", "[coordinator]") {
  Cluster cluster(Basic());
  Start(cluster);
  const RedundancyReport report = *cluster.coordinator->CheckRedundancy(kGroup);
  CHECK(report.layers[0].free_redundancy == 4);      // 12 slots, 8 experts
  CHECK(report.ranks_may_be_lost_serving == 1);      // 9 slots hold 8
  CHECK(report.ranks_may_be_lost_rebalancing == 1);  // and one is left
  CHECK(report.ranks_may_be_lost_at_once == 0);      // some experts have one replica only
  CHECK(report.problems.empty());
}

TEST_CASE("operations of earlier controllers stay known", "[coordinator]") {
  Cluster cluster(Basic());
  OperationProgress old;
  old.id = "r0";
  old.group = kGroup;
  old.state = OperationState::kDone;
  cluster.RestartController({old});
  StartUnderLoad(cluster);
  cluster.Rearrange("r0");
  CHECK(cluster.StateOf("r0") == "done");
  CHECK(cluster.orders.empty());
}

}  // namespace
}  // namespace evenkeel::controller
