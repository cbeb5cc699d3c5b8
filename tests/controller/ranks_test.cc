// SPDX-License-Identifier: Apache-2.0
//
// Ranks that join a group and ranks that leave it, while the others serve.
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "catch2/catch.hpp"

#include "controller/core/planning/compute_plan.h"
#include "tests/controller/cluster.h"
#include "tests/controller/ranks.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

TEST_CASE("a group of a part of its ranks forms, balances and judges itself among them", "[ranks]") {
  Cluster cluster(Growing());
  StartUnderLoad(cluster);
  CHECK(cluster.Status().view.members.size() == 4);
  CHECK(cluster.Status().members.size() == 4);
  CHECK(StandingOf(cluster, 3) == Standing::kServing);
  CHECK(StandingOf(cluster, 5) == Standing::kAbsent);
  cluster.Rearrange("r");
  RunUntilDone(cluster, "r");
  CHECK(NumLiveOn(cluster, 4) == 0);
  cluster.Run(absl::Seconds(10));
  const GroupStats stats = *cluster.coordinator->GetStats(kGroup, {.num_windows = 3, .span = {}}, cluster.now);
  CHECK(stats.imbalance_realised < 1.35);  // six ranks of which two do nothing would give 1.5 at least
  CHECK(stats.imbalance_realised == Approx(stats.imbalance_predicted).margin(0.05));
  CHECK(cluster.Status().imbalance_gap.empty());
}

TEST_CASE("a new rank waits until it is admitted, is filled while the others serve, and serves then", "[ranks]") {
  Cluster cluster(Growing());
  StartUnderLoad(cluster);
  cluster.StartJoining(4);
  cluster.AttachAgent(4);
  cluster.Run(absl::Seconds(2));
  CHECK(StandingOf(cluster, 4) == Standing::kAbsent);
  CHECK(StatusOf(cluster, 4).waiting);
  CHECK(cluster.Status().view.members.size() == 4);

  Admit(cluster, "a", {4});
  RunUntilDone(cluster, "a");

  CHECK(StandingOf(cluster, 4) == Standing::kServing);
  CHECK(NumLiveOn(cluster, 4) == 6);
  CHECK(cluster.Operation("a").num_moves_done >= 4);
  CHECK(cluster.Operation("a").cause == Cause::kAdmit);
  CHECK(cluster.Status().view.members.size() == 5);
  Admit(cluster, "a", {4});  // known: nothing
  CHECK(cluster.StateOf("a") == "done");
}

TEST_CASE("an admission may be asked for before the rank's engine comes", "[ranks]") {
  Cluster cluster(Growing());
  StartUnderLoad(cluster);
  Admit(cluster, "a", {4, 5});
  cluster.Run(absl::Seconds(1));
  CHECK(cluster.StateOf("a") == "running");
  CHECK(absl::StrContains(cluster.Operation("a").detail, "rank 4 its engine has not come"));
  cluster.StartJoining(5);
  cluster.AttachAgent(5);
  REQUIRE(cluster.RunUntil([&] { return StandingOf(cluster, 5) == Standing::kServing; }));
  CHECK(cluster.StateOf("a") == "running");
  cluster.StartJoining(4);
  cluster.AttachAgent(4);
  RunUntilDone(cluster, "a");
  CHECK(NumLiveOn(cluster, 4) == 6);
  CHECK(NumLiveOn(cluster, 5) == 6);
}

TEST_CASE("with auto_admit whoever comes is taken in", "[ranks]") {
  Cluster::Options options = Growing();
  options.settings.defaults.auto_admit = true;
  Cluster cluster(options);
  StartUnderLoad(cluster);
  cluster.StartJoining(5);
  cluster.AttachAgent(5);
  REQUIRE(cluster.RunUntil([&] { return NumLiveOn(cluster, 5) == 6; }));
  CHECK(StandingOf(cluster, 5) == Standing::kServing);
}

TEST_CASE("a newcomer is told of nothing while a member has not accepted it", "[ranks]") {
  Cluster cluster(Growing());
  StartUnderLoad(cluster);
  cluster.agents[2].stalled = true;
  cluster.StartJoining(4);
  cluster.AttachAgent(4);
  Admit(cluster, "a", {4});
  cluster.Run(absl::Seconds(5));
  CHECK(StandingOf(cluster, 4) == Standing::kJoining);
  CHECK(cluster.agents[4].view_number == 0);
  CHECK(cluster.agents[4].epoch == Epoch());
  CHECK(absl::StrContains(cluster.Operation("a").detail, "rank 2 has not quiesced"));
  cluster.Resume(2);
  RunUntilDone(cluster, "a");
}

TEST_CASE("a newcomer's slots are in no map while it has not taken the maps itself", "[ranks]") {
  Cluster cluster(Growing());
  StartUnderLoad(cluster);
  cluster.StartJoining(4);
  cluster.agents[4].stalled = true;
  cluster.AttachAgent(4);
  Admit(cluster, "a", {4});
  cluster.Run(absl::Seconds(5));
  CHECK(StandingOf(cluster, 4) == Standing::kJoining);
  CHECK(cluster.agents[4].view_number > 0);
  CHECK(NumLiveOn(cluster, 4) == 0);
  cluster.Resume(4);
  RunUntilDone(cluster, "a");
}

TEST_CASE("drained ranks are emptied and left out; then they are safe to terminate", "[ranks]") {
  Cluster cluster(Growing());
  StartUnderLoad(cluster);
  Grow(cluster);
  cluster.agents[0].stalled = true;
  Drain(cluster, "d", {1, 3});
  CHECK(StandingOf(cluster, 1) == Standing::kDraining);  // at once, for routers
  cluster.Resume(0);
  RunUntilDone(cluster, "d");

  for (int rank : {1, 3}) {
    CHECK(StandingOf(cluster, rank) == Standing::kLeft);
    CHECK(StatusOf(cluster, rank).safe_to_terminate);
    CHECK(NumLiveOn(cluster, rank) == 0);
  }
  CHECK(cluster.Status().view.members.size() == 3);
  for (int rank : {0, 2, 4}) {
    for (const auto& member : cluster.agents[static_cast<size_t>(rank)].view_members) CHECK(member.rank != RankId(1));
  }
  // Its process ends; nothing comes of it.
  cluster.DetachAgent(1);
  cluster.Rearrange("r");
  RunUntilDone(cluster, "r");
  CHECK(NumLiveOn(cluster, 1) == 0);
}

TEST_CASE("a drained rank comes back with a new engine once it is admitted", "[ranks]") {
  Cluster cluster(Growing());
  StartUnderLoad(cluster);
  Drain(cluster, "d", {0});
  RunUntilDone(cluster, "d");
  cluster.DetachAgent(0);
  cluster.StartJoining(0);
  cluster.AttachAgent(0);
  cluster.Run(absl::Seconds(2));
  CHECK(StandingOf(cluster, 0) == Standing::kLeft);
  Admit(cluster, "a", {0});
  RunUntilDone(cluster, "a");
  CHECK(NumLiveOn(cluster, 0) == 6);
}

TEST_CASE("an emptied rank has its grace, or leaves as soon as its engine is idle", "[ranks]") {
  const bool idle = GENERATE(false, true);
  Cluster cluster(Growing());
  StartUnderLoad(cluster);
  Drain(cluster, "d", {3}, absl::Seconds(20));
  REQUIRE(cluster.RunUntil([&] { return NumLiveOn(cluster, 3) == 0; }));
  cluster.Run(absl::Seconds(5));
  CHECK(StandingOf(cluster, 3) == Standing::kDraining);
  CHECK(absl::StrContains(cluster.Operation("d").detail, "its engine may end what it does"));
  const absl::Time began = cluster.now;
  cluster.agents[3].idle = idle;
  RunUntilDone(cluster, "d");
  if (idle) CHECK(cluster.now - began < absl::Seconds(1));
  if (!idle) CHECK(cluster.now - began > absl::Seconds(10));
}

TEST_CASE("a rank leaves only when nobody may still send to it", "[ranks]") {
  Cluster cluster(Growing());
  StartUnderLoad(cluster);
  cluster.Run(absl::Seconds(1));
  Drain(cluster, "d", {3});
  REQUIRE(cluster.RunUntil([&] { return NumLiveOn(cluster, 3) == 0; }));
  // By now it may have left already; a member that has not quiesced holds up its end.
  cluster.agents[0].stalled = true;
  cluster.Run(absl::Seconds(5));
  if (StandingOf(cluster, 3) == Standing::kLeft) CHECK(cluster.agents[3].view_number > 0);
  cluster.Resume(0);
  RunUntilDone(cluster, "d");
}

TEST_CASE("a drain below the capacity floor is refused, naming experts without room", "[ranks]") {
  Cluster cluster(Growing());
  StartUnderLoad(cluster);
  Drain(cluster, "d", {1, 2});
  CHECK(cluster.StateOf("d") == "failed");
  CHECK(
      absl::StrContains(cluster.Operation("d").detail, "layer 0 would have 6 slots left for 8 experts: no room for 2"));
  CHECK(StandingOf(cluster, 1) == Standing::kServing);
  Drain(cluster, "e", {1});
  Drain(cluster, "f", {2});  // what is being drained already counts no more
  CHECK(cluster.StateOf("f") == "failed");
}

TEST_CASE("what cannot be admitted or drained is refused with the reason", "[ranks]") {
  Cluster cluster(Growing());
  StartUnderLoad(cluster);
  const auto admit = [&](std::string id, std::initializer_list<int> ranks) {
    Admit(cluster, id, ranks);
    return cluster.Operation(id).detail;
  };
  const auto drain = [&](std::string id, std::initializer_list<int> ranks) {
    Drain(cluster, id, ranks, absl::Seconds(20));
    return cluster.Operation(id).detail;
  };
  CHECK(absl::StrContains(admit("1", {6}), "rank 6 of group g: it may have 6 ranks at most, 0 to 5"));
  CHECK(absl::StrContains(admit("2", {2}), "rank 2 serves already"));
  CHECK(absl::StrContains(drain("3", {5}), "rank 5 is no member: it was never here"));
  CHECK(absl::StrContains(drain("4", {}), "which ranks"));
  admit("5", {4});
  CHECK(absl::StrContains(admit("6", {4}), "being taken in already, by operation 5"));
  drain("7", {3});
  CHECK(absl::StrContains(drain("8", {3}), "being drained already, by operation 7"));
  CHECK(absl::StrContains(admit("9", {3}), "is being drained by operation 7"));
  cluster.Deliver(DrainRequested{"10", "other", Ranks({1}), std::nullopt});
  CHECK(absl::StrContains(cluster.Operation("10").detail, "unknown group other"));
}

TEST_CASE("a cancelled admission waits for nobody; a cancelled drain lets ranks serve on", "[ranks]") {
  Cluster cluster(Growing());
  StartUnderLoad(cluster);
  Admit(cluster, "a", {4});
  cluster.Deliver(CancelRequested{"a"});
  CHECK(cluster.StateOf("a") == "cancelled");
  cluster.StartJoining(4);
  cluster.AttachAgent(4);
  cluster.Run(absl::Seconds(1));
  CHECK(StandingOf(cluster, 4) == Standing::kAbsent);
  for (FakeAgent& agent : cluster.agents) agent.holds_moves = true;
  Drain(cluster, "d", {1});
  cluster.Run(absl::Milliseconds(300));
  cluster.Deliver(CancelRequested{"d"});
  for (int rank = 0; rank < 4; ++rank) cluster.Resume(rank);
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("d") == "cancelled"; }));
  CHECK(StandingOf(cluster, 1) == Standing::kServing);
  cluster.Run(absl::Seconds(5));
  CHECK(NumLiveOn(cluster, 1) > 0);
}

TEST_CASE("a drain overtakes a rearrangement, and goes on after one that overtook it", "[ranks]") {
  Cluster cluster(Growing());
  StartUnderLoad(cluster);
  for (FakeAgent& agent : cluster.agents) agent.holds_moves = true;
  cluster.Rearrange("r");
  cluster.Run(absl::Milliseconds(200));
  REQUIRE(cluster.StateOf("r") == "running");
  Drain(cluster, "d", {2});
  CHECK(cluster.StateOf("r") == "superseded");
  cluster.Rearrange("s");
  for (int rank = 0; rank < 4; ++rank) cluster.Resume(rank);
  RunUntilDone(cluster, "d");
  CHECK(NumLiveOn(cluster, 2) == 0);
}

TEST_CASE("a plan for ranks that are others by now is made again", "[ranks]") {
  Cluster cluster(Growing());
  StartUnderLoad(cluster);
  cluster.hold_plans = true;
  cluster.Rearrange("r");
  REQUIRE(cluster.plans.size() == 1);
  cluster.StartJoining(4);
  cluster.AttachAgent(4);
  Admit(cluster, "a", {4});
  cluster.Run(absl::Seconds(1));
  REQUIRE(StandingOf(cluster, 4) == Standing::kServing);
  cluster.hold_plans = false;
  cluster.Deliver(PlanComputed{cluster.plans.front().plan_id, RunPlan(cluster.plans.front())});
  CHECK(cluster.StateOf("r") == "superseded");
  RunUntilDone(cluster, "a");
}

TEST_CASE("the next controller goes on with an admission and with a drain, under their ids", "[ranks]") {
  Cluster cluster(Growing());
  StartUnderLoad(cluster);
  Admit(cluster, "a", {4});
  for (FakeAgent& agent : cluster.agents) agent.holds_moves = true;
  Drain(cluster, "d", {3});
  cluster.Run(absl::Milliseconds(300));
  REQUIRE(cluster.StateOf("d") == "running");

  cluster.RestartController(Stored(cluster));
  cluster.AttachAll();
  for (int rank = 0; rank < 4; ++rank) cluster.Resume(rank);
  RunUntilDone(cluster, "d");
  CHECK(StandingOf(cluster, 3) == Standing::kLeft);
  CHECK(cluster.StateOf("a") == "running");
  cluster.StartJoining(4);
  cluster.AttachAgent(4);
  RunUntilDone(cluster, "a");
  CHECK(NumLiveOn(cluster, 4) == 6);
}

}  // namespace
}  // namespace evenkeel::controller
