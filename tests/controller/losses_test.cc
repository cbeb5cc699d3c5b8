// SPDX-License-Identifier: Apache-2.0
//
// Ranks that are lost while the others serve: the view, the maps, what becomes of operations, experts restored.
#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "catch2/catch.hpp"

#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

// Every expert has two replicas where all ranks live: 16 slots for 8 experts.
Cluster::Options Replicated() {
  Cluster::Options options = Basic();
  options.shape.slots_per_rank = 4;
  return options;
}

FakeAgent& AgentOf(Cluster& cluster, int rank) { return cluster.agents[static_cast<size_t>(rank)]; }

// Its engine is gone: it follows no maps, quiesces at nothing.
void Die(Cluster& cluster, int rank) {
  AgentOf(cluster, rank).in_use.clear();
  AgentOf(cluster, rank).stalled = true;
}

EngineStatus Ended() {
  EngineStatus status;
  status.alive = false;
  return status;
}

EngineStatus WaitsFor(std::vector<RankId> ranks) {
  EngineStatus status;
  status.oldest_open_step = absl::Milliseconds(100);
  status.waiting_for = std::move(ranks);
  return status;
}

// Its engine and its agent are gone, and an agent beside it tells of the engine.
void Lose(Cluster& cluster, int rank, int told_by) {
  Die(cluster, rank);
  const Member member = AgentOf(cluster, rank).member;
  if (AgentOf(cluster, rank).session.has_value()) cluster.DetachAgent(rank);
  cluster.Send(told_by, PeerEnded{member});
  cluster.Settle();
}

bool InView(const Cluster& cluster, int rank) {
  const View view = cluster.Status().view;
  return std::ranges::any_of(view.members, [&](const Member& member) { return member.rank == RankId(rank); });
}

// Of all layers, by the maps in force.
int NumNamedOn(const Cluster& cluster, int rank) {
  int num_named = 0;
  for (int l = 0; l < cluster.options.num_layers; ++l) {
    const std::multiset<int> named = ByRank(cluster, l)[static_cast<size_t>(rank)];
    num_named += static_cast<int>(std::ranges::count_if(named, [](int expert) { return expert >= 0; }));
  }
  return num_named;
}

size_t NumExpertsLost(const Cluster& cluster) {
  size_t num_lost = 0;
  for (const LayerStatus& layer : cluster.Status().layers) num_lost += layer.experts_lost.size();
  return num_lost;
}

const OperationProgress* NewestOf(const std::vector<OperationProgress>& operations, Cause cause) {
  const auto found = std::ranges::find(operations, cause, &OperationProgress::cause);
  return found == operations.end() ? nullptr : &*found;
}

// Every living rank has a host pool to offer.
void OfferPools(Cluster& cluster) {
  for (int r = 0; r < cluster.options.shape.num_ranks; ++r) {
    if (!AgentOf(cluster, r).session.has_value()) continue;
    cluster.Send(r, EndpointsChanged{{{"local", "host", std::to_string(r)}, {"pool", "host", "p"}}});
  }
  cluster.Settle();
}

TEST_CASE("a rank whose engine has ended leaves the view and then the maps, in one step", "[losses]") {
  Cluster cluster(Replicated());
  Start(cluster);
  const uint64_t view = cluster.Status().view.number;
  const bool by_peer = GENERATE(true, false);
  if (by_peer) {
    Lose(cluster, 2, 0);
  } else {
    Die(cluster, 2);
    cluster.Send(2, Ended());
    cluster.Settle();
  }
  CHECK(cluster.Status().view.number == view + 1);
  CHECK_FALSE(InView(cluster, 2));
  CHECK(NumNamedOn(cluster, 2) == 0);
  CHECK(NumExpertsLost(cluster) == 0);
  CHECK(cluster.updates.back().view_number == view + 1);
  CHECK(AgentOf(cluster, 0).view_number == view + 1);
  const auto operations = cluster.coordinator->ListOperations(kGroup);
  const OperationProgress* const emergency = NewestOf(operations, Cause::kEmergency);
  REQUIRE(emergency != nullptr);
  CHECK(emergency->state == OperationState::kDone);
  CHECK(emergency->ranks == std::vector<RankId>{RankId(2)});
}

TEST_CASE("an agent that is away, its engine well, expels nobody; its rank stays in the maps", "[losses]") {
  Cluster cluster(Replicated());
  Start(cluster);
  cluster.DetachAgent(2);
  cluster.Run(absl::Minutes(2));
  CHECK(InView(cluster, 2));
  CHECK(NumNamedOn(cluster, 2) > 0);
  cluster.AttachAgent(2);
  cluster.Run(absl::Seconds(1));
  CHECK(cluster.Status().members[2].attached);
}

TEST_CASE("a silent rank that two engines wait for is expelled, after its lease and no sooner", "[losses]") {
  Cluster cluster(Replicated());
  Start(cluster);
  cluster.Run(absl::Seconds(10));
  Die(cluster, 2);
  cluster.DetachAgent(2);
  for (int i = 0; i < 25; ++i) {
    cluster.Send(0, WaitsFor({RankId(2)}));
    cluster.Send(3, WaitsFor({RankId(2)}));
    cluster.Run(absl::Milliseconds(100));
  }
  CHECK(InView(cluster, 2));
  for (int i = 0; i < 10; ++i) {
    cluster.Send(0, WaitsFor({RankId(2)}));
    cluster.Send(3, WaitsFor({RankId(2)}));
    cluster.Run(absl::Milliseconds(100));
  }
  CHECK_FALSE(InView(cluster, 2));
  CHECK(NumNamedOn(cluster, 2) == 0);
}

TEST_CASE("an expelled incarnation that comes back learns the view, and is not taken for a member", "[losses]") {
  Cluster cluster(Replicated());
  Start(cluster);
  Lose(cluster, 2, 0);
  AgentOf(cluster, 2).view_number = 1;
  cluster.AttachAgent(2);
  cluster.Run(absl::Seconds(1));
  CHECK(AgentOf(cluster, 2).view_number == cluster.Status().view.number);
  CHECK_FALSE(InView(cluster, 2));
  CHECK(NumNamedOn(cluster, 2) == 0);
}

TEST_CASE("an expelled rank that a successor refused comes back with its term, and no controller ends for it",
          "[losses]") {
  Cluster cluster(Replicated());
  Start(cluster);
  Lose(cluster, 2, 0);
  cluster.RestartController();
  for (int r : {0, 1, 3}) cluster.AttachAgent(r);
  cluster.Run(absl::Seconds(2));
  REQUIRE_FALSE(cluster.Status().forming);
  AgentOf(cluster, 2).view_number = 1;
  for (int i = 0; i < 2; ++i) {
    cluster.AttachAgent(2);
    cluster.Settle();
    REQUIRE(AgentOf(cluster, 2).refused.has_value());
  }
  CHECK_FALSE(cluster.stepped_down.has_value());
}

TEST_CASE("a newcomer's agent comes back, and no controller ends for it", "[losses]") {
  Cluster cluster(Replicated());
  Start(cluster);
  Lose(cluster, 2, 0);
  cluster.StartJoining(2);
  cluster.AttachAgent(2);
  cluster.Run(absl::Seconds(2));
  REQUIRE(InView(cluster, 2));
  cluster.DetachAgent(2);
  cluster.AttachAgent(2);
  cluster.Run(absl::Seconds(1));
  CHECK_FALSE(cluster.stepped_down.has_value());
  CHECK(InView(cluster, 2));
}

TEST_CASE("a newcomer that comes before its successor knows the view waits, and is taken in", "[losses]") {
  Cluster cluster(Replicated());
  Start(cluster);
  Lose(cluster, 2, 0);
  cluster.RestartController();
  cluster.StartJoining(2);
  cluster.AttachAgent(2);
  cluster.Settle();
  for (int r : {0, 1, 3}) cluster.AttachAgent(r);
  cluster.Settle();
  CHECK_FALSE(AgentOf(cluster, 2).session.has_value());
  cluster.AttachAgent(2);
  CHECK(cluster.RunUntil([&] { return !cluster.Status().forming && InView(cluster, 2); }));
}

TEST_CASE("silent ranks whose loss the rules hold back are lost when an operator drains them", "[losses]") {
  Cluster::Options options = Replicated();
  options.may_lose_experts = true;
  Cluster cluster(options);
  Start(cluster);
  cluster.Run(absl::Seconds(10));
  for (int r : {1, 2, 3}) {
    Die(cluster, r);
    cluster.DetachAgent(r);
  }
  cluster.Run(absl::Seconds(5));
  REQUIRE(InView(cluster, 3));
  cluster.Deliver(DrainRequested{
      .operation_id = "gone", .group = Cluster::kGroup, .ranks = {RankId(1), RankId(2), RankId(3)}, .grace = {}});
  cluster.Settle();
  CHECK(cluster.StateOf("gone") == "done");
  for (int r : {1, 2, 3}) CHECK_FALSE(InView(cluster, r));
  CHECK(InView(cluster, 0));
}

TEST_CASE("several ranks at once leave by one view", "[losses]") {
  Cluster::Options options = Replicated();
  options.may_lose_experts = true;
  Cluster cluster(options);
  Start(cluster);
  const uint64_t view = cluster.Status().view.number;
  Die(cluster, 1);
  Die(cluster, 2);
  cluster.Send(1, Ended());
  cluster.Send(2, Ended());
  cluster.Settle();
  CHECK(cluster.Status().view.number <= view + 2);
  CHECK(cluster.Status().view.members.size() == 2);
  CHECK(NumNamedOn(cluster, 1) + NumNamedOn(cluster, 2) == 0);
}

TEST_CASE("what runs is overtaken by a loss, said so, and gone on with over the living", "[losses]") {
  Cluster::Options options = Replicated();
  options.may_lose_experts = true;  // of a slot that is being written the other replica may be on the rank
  Cluster cluster(options);
  StartUnderLoad(cluster);
  for (FakeAgent& agent : cluster.agents) agent.holds_moves = true;
  cluster.Rearrange("r");
  REQUIRE(cluster.RunUntil([&] { return !AgentOf(cluster, 0).moves.empty() || !AgentOf(cluster, 1).moves.empty(); }));
  Lose(cluster, 3, 0);
  CHECK(cluster.StateOf("r") == "superseded");
  CHECK(absl::StrContains(cluster.Operation("r").detail, "rank 3 was lost"));
  for (int r = 0; r < 3; ++r) cluster.Resume(r);
  const auto replanned = [&] {
    const auto operations = cluster.coordinator->ListOperations(kGroup);
    return std::ranges::any_of(operations, [](const OperationProgress& operation) {
      return operation.cause == Cause::kEmergency && operation.for_operator && operation.state == OperationState::kDone;
    });
  };
  CHECK(cluster.RunUntil(replanned));
  CHECK(NumNamedOn(cluster, 3) == 0);
}

TEST_CASE("experts without a replica are told, and restored from a pool into the least harmful slots", "[losses]") {
  Cluster::Options options = Basic();  // 12 slots for 8 experts: some have one replica alone
  options.may_lose_experts = true;
  Cluster cluster(options);
  Start(cluster);
  const bool pools_first = GENERATE(true, false);
  CAPTURE(pools_first);
  if (pools_first) OfferPools(cluster);
  Lose(cluster, 1, 0);
  Lose(cluster, 2, 0);
  if (!pools_first) {
    // No source: they stay lost, and no replica is given up for them.
    REQUIRE(NumExpertsLost(cluster) > 0);
    CHECK(absl::StrContains(cluster.Status().alerts.back().text, "experts have no live replica"));
    const RedundancyReport report = *cluster.coordinator->CheckRedundancy(kGroup);
    CHECK(std::ranges::any_of(report.problems, [](const std::string& problem) {
      return absl::StrContains(problem, "without a live replica: ");
    }));
  } else {
    cluster.Run(absl::Seconds(5));
    CHECK(NumExpertsLost(cluster) == 2 * 2);  // six slots for eight experts of two layers
    return;
  }
  cluster.Run(absl::Seconds(2));
  OfferPools(cluster);
  cluster.Run(absl::Seconds(40));
  CHECK(NumExpertsLost(cluster) == 2 * 2);
}

TEST_CASE("every expert is restored where the ranks left have a slot for each", "[losses]") {
  Cluster::Options options = Basic();
  options.may_lose_experts = true;
  Cluster cluster(options);
  Start(cluster);
  OfferPools(cluster);
  Lose(cluster, 1, 0);
  CHECK(NumNamedOn(cluster, 1) == 0);
  AgentOf(cluster, 0).num_moves_to_fail = 2;  // tried again
  REQUIRE(cluster.RunUntil([&] { return NumExpertsLost(cluster) == 0; }, absl::Seconds(20)));
  for (const MoveOrder& order : cluster.orders) {
    for (const MoveSource& source : order.sources) CHECK(source.member.rank != RankId(1));
  }
  const auto operations = cluster.coordinator->ListOperations(kGroup);
  const OperationProgress* const emergency = NewestOf(operations, Cause::kEmergency);
  REQUIRE(emergency != nullptr);
  CHECK(emergency->state == OperationState::kDone);
  CHECK(emergency->num_moves_done == emergency->num_moves);
}

TEST_CASE("a successor takes the view that agents tell for the group, and forms it without the lost", "[losses]") {
  Cluster cluster(Replicated());
  Start(cluster);
  Lose(cluster, 2, 0);
  REQUIRE_FALSE(InView(cluster, 2));
  const uint64_t view = cluster.Status().view.number;
  cluster.RestartController();
  for (int r : {0, 1, 3}) cluster.AttachAgent(r);
  cluster.Run(absl::Seconds(2));
  CHECK_FALSE(cluster.Status().forming);
  CHECK(cluster.Status().view.number > view);
  CHECK_FALSE(InView(cluster, 2));
  SECTION("the lost one's agent is told so, and refused") {
    cluster.AttachAgent(2);
    cluster.Settle();
    REQUIRE(AgentOf(cluster, 2).refused.has_value());
    CHECK(absl::StrContains(AgentOf(cluster, 2).refused->message(), "its engine must be started anew"));
    CHECK_FALSE(InView(cluster, 2));
  }
}

TEST_CASE("a successor that forms a group expels by evidence those that do not come", "[losses]") {
  Cluster cluster(Replicated());
  Start(cluster);
  cluster.RestartController();
  for (int r : {0, 1, 3}) cluster.AttachAgent(r);
  cluster.Run(absl::Seconds(2));
  CHECK(cluster.Status().forming);
  Lose(cluster, 2, 0);
  cluster.Run(absl::Milliseconds(200));
  CHECK_FALSE(cluster.Status().forming);
  CHECK_FALSE(InView(cluster, 2));
  CHECK(NumNamedOn(cluster, 2) == 0);
}

TEST_CASE("what a lost rank says changes nothing", "[losses]") {
  Cluster cluster(Replicated());
  Start(cluster);
  Die(cluster, 2);
  cluster.Send(2, Ended());
  cluster.Settle();
  const uint64_t view = cluster.Status().view.number;
  const Epoch epoch = cluster.Status().epoch;
  cluster.Send(2, WaitsFor({RankId(0), RankId(1)}));
  cluster.Send(2, PeerEnded{AgentOf(cluster, 0).member});
  cluster.Send(2, SlotLost{LayerId(0), SlotIdx(8), 5});
  cluster.Run(absl::Seconds(1));
  CHECK(cluster.Status().view.number == view);
  CHECK(cluster.Status().epoch == epoch);
  CHECK(InView(cluster, 0));
}

TEST_CASE("an agent of another host cannot see locks, and is not believed", "[losses]") {
  Cluster cluster(Replicated());
  Start(cluster);
  cluster.Send(0, EndpointsChanged{{{"ucx", "elsewhere", "0"}}});
  cluster.Send(0, PeerEnded{AgentOf(cluster, 2).member});
  cluster.Run(absl::Seconds(1));
  CHECK(InView(cluster, 2));
  cluster.Send(1, PeerEnded{AgentOf(cluster, 2).member});
  Die(cluster, 2);
  cluster.Settle();
  CHECK_FALSE(InView(cluster, 2));
}

}  // namespace
}  // namespace evenkeel::controller
