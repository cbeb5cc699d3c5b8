// SPDX-License-Identifier: Apache-2.0
//
// Weights that change under the controller (docs/protocol.md, rules 22 and 23).
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "catch2/catch.hpp"

#include "controller/core/coordinator.h"
#include "tests/controller/cluster.h"
#include "tests/controller/ranks.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

constexpr int kRanks = 4;

bool AnyAlert(const Cluster& cluster, absl::string_view part) {
  return std::ranges::any_of(cluster.Status().alerts,
                             [&](const Alert& alert) { return absl::StrContains(alert.text, part); });
}

bool AnyProblem(const Cluster& cluster, absl::string_view part) {
  return std::ranges::any_of(cluster.coordinator->CheckRedundancy(kGroup)->problems,
                             [&](const std::string& problem) { return absl::StrContains(problem, part); });
}

const FakeAgent& AgentOf(const Cluster& cluster, int rank) { return cluster.agents[static_cast<size_t>(rank)]; }

void Reload(Cluster& cluster, int rank, uint64_t version) {
  cluster.SuspendWeights(rank);
  cluster.Run(absl::Milliseconds(50));
  cluster.ResumeWeights(rank, version);
}

// Has a move ordered and not answered; the order.
MoveOrder HoldAMove(Cluster& cluster) {
  for (FakeAgent& agent : cluster.agents) agent.holds_moves = true;
  cluster.Rearrange("r");
  REQUIRE(cluster.RunUntil([&] { return !cluster.orders.empty(); }));
  return cluster.orders.front();
}

}  // namespace

TEST_CASE("a rank that is suspended while nothing moves is released at once, and stays in the maps", "[weights]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  const size_t num_updates = cluster.updates.size();
  cluster.SuspendWeights(1);
  CHECK(AgentOf(cluster, 1).released);
  cluster.Run(absl::Seconds(20));
  CHECK(cluster.updates.size() == num_updates);
  CHECK(cluster.coordinator->NextWakeup() > cluster.now);
  CHECK(NumLiveOn(cluster, 1) == 6);
  CHECK(StatusOf(cluster, 1).suspended);
  CHECK(StatusOf(cluster, 1).note == "is suspended: its weights change");
  CHECK(AnyProblem(cluster, "rank 1 is suspended: nothing is moved"));
  CHECK_FALSE(AnyAlert(cluster, "differ"));

  cluster.ResumeWeights(1, 0);
  CHECK_FALSE(StatusOf(cluster, 1).suspended);
  CHECK(NumLiveOn(cluster, 1) == 6);
  cluster.Rearrange("r");
  RunUntilDone(cluster, "r");
}

TEST_CASE("moves end before a rank is released, also those between other ranks", "[weights]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  const MoveOrder order = HoldAMove(cluster);
  const int reader = cluster.options.shape.RankOf(order.slot).value();
  const int source = order.sources.front().member.rank.value();
  cluster.DetachAgent(reader);
  cluster.SuspendWeights(source);
  cluster.Run(absl::Seconds(1));
  CHECK_FALSE(AgentOf(cluster, source).released);
  for (FakeAgent& agent : cluster.agents) agent.holds_moves = false;
  cluster.AttachAgent(reader);
  REQUIRE(cluster.RunUntil([&] { return AgentOf(cluster, source).released; }));
  CHECK(AgentOf(cluster, reader).moves.empty());
  const size_t num_orders = cluster.orders.size();
  cluster.Run(absl::Seconds(30));
  CHECK(cluster.orders.size() == num_orders);
  CHECK(cluster.StateOf("r") == "running");
  cluster.ResumeWeights(source, 0);
  RunUntilDone(cluster, "r");
}

TEST_CASE("while nobody answers for a move that was given up, nobody is woken for it without end", "[weights]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  const MoveOrder order = HoldAMove(cluster);
  cluster.DetachAgent(cluster.options.shape.RankOf(order.slot).value());
  cluster.SuspendWeights(order.sources.front().member.rank.value());
  cluster.Run(absl::Minutes(1));
  CHECK(cluster.coordinator->NextWakeup() > cluster.now);
}

TEST_CASE("a wave that a suspension ends is nobody's fault, and what was retired returns to the maps", "[weights]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  HoldAMove(cluster);
  size_t num_orders = 0;
  for (int round = 0; round < 12; ++round) {  // more than a layer may fail
    CAPTURE(round);
    REQUIRE(cluster.RunUntil([&] { return cluster.orders.size() > num_orders; }));
    cluster.SuspendWeights(round % kRanks);
    REQUIRE(cluster.RunUntil([&] { return AgentOf(cluster, round % kRanks).released; }));
    cluster.Run(absl::Milliseconds(100));
    for (const LayerStatus& layer : cluster.Status().layers) CHECK(layer.num_slots_retired == 0);
    num_orders = cluster.orders.size();
    cluster.ResumeWeights(round % kRanks, 0);
  }
  for (int rank = 0; rank < kRanks; ++rank) cluster.Resume(rank);
  RunUntilDone(cluster, "r");
  CHECK(cluster.Status().totals.waves_undone == 0);
}

TEST_CASE("no wave runs while versions differ, who differs is named, and moves go on when all are equal", "[weights]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  for (int rank : {0, 1, 2}) Reload(cluster, rank, 2);
  cluster.Rearrange("r");
  cluster.Run(absl::Seconds(30));
  CHECK(cluster.orders.empty());
  CHECK(cluster.StateOf("r") == "running");
  CHECK(AnyAlert(cluster, "weights versions differ: version 0 on rank 3; version 2 on ranks 0, 1, 2"));
  CHECK(AnyProblem(cluster, "version 2 on ranks 0, 1, 2"));
  CHECK(StatusOf(cluster, 3).note == "has weights version 0");
  CHECK(StatusOf(cluster, 2).weights_version == 2);
  const std::vector<WaveBlocked> blocked = cluster.Status().waves_blocked;
  REQUIRE_FALSE(blocked.empty());
  CHECK(blocked.front().reason == "has weights version 2, others 0");
  for (int rank = 0; rank < kRanks; ++rank) CHECK(NumLiveOn(cluster, rank) == 6);

  Reload(cluster, 3, 2);
  RunUntilDone(cluster, "r");
  CHECK(cluster.Status().info.weights_version == 2);
  CHECK_FALSE(cluster.orders.empty());
  CHECK(StatusOf(cluster, 3).note.empty());
}

TEST_CASE("ranks may go back to the version that they had", "[weights]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  Reload(cluster, 0, 2);
  Reload(cluster, 1, 2);
  Reload(cluster, 0, 0);
  Reload(cluster, 1, 0);
  CHECK(cluster.Status().totals.fingerprint_failures == 0);
  for (int rank = 0; rank < kRanks; ++rank) CHECK(NumLiveOn(cluster, rank) == 6);
  cluster.Rearrange("r");
  RunUntilDone(cluster, "r");
}

TEST_CASE("of replicas that disagree at a new version the fewer leave the maps, and none is moved", "[weights]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  // Expert 0 of layer 0 is in slots 0 and, of rank 2 or 3, one more.
  for (int rank = 0; rank < kRanks; ++rank) cluster.SuspendWeights(rank);
  for (int rank = 0; rank < kRanks; ++rank) REQUIRE(AgentOf(cluster, rank).released);
  for (int rank = 0; rank + 1 < kRanks; ++rank) cluster.ResumeWeights(rank, 2);
  FakeAgent& last = cluster.agents[3];
  const SlotRecord whole = last.slots[0];
  cluster.ResumeWeights(3, 2);
  REQUIRE(cluster.Status().info.weights_version == 2);
  // Once more, with one expert of the last rank wrong.
  for (int rank = 0; rank < kRanks; ++rank) cluster.SuspendWeights(rank);
  for (int rank = 0; rank + 1 < kRanks; ++rank) cluster.ResumeWeights(rank, 3);
  last.suspended = last.released = false;
  last.weights_version = 3;
  for (size_t i = 0; i < last.slots.size(); ++i) {
    ++last.slots[i].generation;
    const LayerId layer(static_cast<int>(i) / cluster.options.shape.slots_per_rank);
    last.slots[i].fingerprint = i == 0 ? 12345 : cluster.FingerprintOf(layer, last.slots[i].expert, 3);
  }
  cluster.DetachAgent(3);
  cluster.AttachAgent(3);
  cluster.Run(absl::Seconds(1));
  CHECK(AnyAlert(cluster, "replicas of expert " + std::to_string(whole.expert.value()) + " of layer 0 disagree"));
  CHECK(AnyAlert(cluster, "0000000000003039 on rank 3"));
  CHECK(NumLiveOn(cluster, 3) == 5);
  for (const LayerStatus& layer : cluster.Status().layers) CHECK(layer.experts_lost.empty());
}

TEST_CASE("other content at the same version is lost content", "[weights]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.SuspendWeights(3);
  FakeAgent& agent = cluster.agents[3];
  agent.suspended = false;
  ++agent.slots[0].generation;
  agent.slots[0].fingerprint = 12345;
  cluster.DetachAgent(3);
  cluster.AttachAgent(3);
  cluster.Run(absl::Seconds(1));
  CHECK(AnyAlert(cluster, "rank 3 lost the content of slot 9 of layer 0"));
  CHECK(NumLiveOn(cluster, 3) == 5);
}

TEST_CASE("an agent that dies meanwhile is followed by one that is released anew", "[weights]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.SuspendWeights(2);
  cluster.DetachAgent(2);
  cluster.agents[2].released = false;
  cluster.agents[2].slots[0].fingerprint = 99;  // being replaced: says nothing yet
  cluster.AttachAgent(2);
  CHECK(AgentOf(cluster, 2).released);
  CHECK(NumLiveOn(cluster, 2) == 6);
  cluster.ResumeWeights(2, 0);
  CHECK(NumLiveOn(cluster, 2) == 6);
  CHECK(cluster.Status().totals.fingerprint_failures == 0);
}

TEST_CASE("another controller lets a suspended rank go on, and the group forms when all have the same weights",
          "[weights]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  Reload(cluster, 0, 2);
  cluster.SuspendWeights(1);
  cluster.RestartController();
  cluster.agents[1].released = false;
  for (int rank = 0; rank < kRanks; ++rank) cluster.AttachAgent(rank);
  cluster.Run(absl::Seconds(2));
  CHECK(AgentOf(cluster, 1).released);
  CHECK(cluster.Status().forming);
  cluster.ResumeWeights(1, 2);
  cluster.Run(absl::Seconds(15));
  CHECK(cluster.Status().forming);
  CHECK(AnyAlert(cluster, "version 0 on ranks 2, 3; version 2 on ranks 0, 1"));
  Reload(cluster, 2, 2);
  Reload(cluster, 3, 2);
  cluster.Run(absl::Seconds(1));
  CHECK_FALSE(cluster.Status().forming);
  CHECK(cluster.Status().info.weights_version == 2);
  cluster.Rearrange("r");
  RunUntilDone(cluster, "r");
}

TEST_CASE("who comes with other weights than the group's is refused, and taken in when they are the same",
          "[weights]") {
  Cluster::Options options = Growing();
  options.settings.defaults.auto_admit = true;
  Cluster cluster(options);
  StartUnderLoad(cluster);
  cluster.StartJoining(4);
  cluster.agents[4].weights_version = 2;
  cluster.AttachAgent(4);
  REQUIRE(AgentOf(cluster, 4).refused.has_value());
  CHECK(AgentOf(cluster, 4).refused->message() == "attach: weights version 2, but the group has 0");
  for (int rank = 0; rank < 4; ++rank) Reload(cluster, rank, 2);
  cluster.AttachAgent(4);
  REQUIRE(cluster.RunUntil([&] { return StandingOf(cluster, 4) == Standing::kServing; }));
}

TEST_CASE("a rank that is suspended and silent has the engines' lease, though its peers wait for it", "[weights]") {
  Cluster::Options options = Basic();
  options.may_lose_experts = true;
  Cluster cluster(options);
  StartUnderLoad(cluster);
  cluster.SuspendWeights(2);
  cluster.DetachAgent(2);
  EngineStatus waits{
      .called_begin_step = true, .num_steps = 5, .oldest_open_step = absl::Seconds(1), .waiting_for = {RankId(2)}};
  const auto run = [&](int seconds) {
    for (int i = 0; i < seconds * 10; ++i) {
      for (int rank : {0, 1, 3}) cluster.Send(rank, waits);
      cluster.Run(absl::Milliseconds(100));
    }
  };
  run(20);
  CHECK(StandingOf(cluster, 2) == Standing::kServing);
  run(15);
  CHECK(StandingOf(cluster, 2) == Standing::kLost);
}

}  // namespace evenkeel::controller
