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

EngineStatus Ended() {
  EngineStatus status;
  status.alive = false;
  return status;
}

TEST_CASE("a rank that is lost while it is drained is lost, and the drain goes on with the others", "[ranks_lost]") {
  Cluster::Options options = Growing();
  options.may_lose_experts = true;  // those that the lost rank alone held
  Cluster cluster(options);
  StartUnderLoad(cluster);
  Grow(cluster);
  for (FakeAgent& agent : cluster.agents) agent.holds_moves = true;
  Drain(cluster, "d", {1, 3});
  cluster.Run(absl::Milliseconds(200));
  REQUIRE(StandingOf(cluster, 1) == Standing::kDraining);
  cluster.Send(1, Ended());
  cluster.DetachAgent(1);
  for (int rank : {0, 2, 3, 4}) cluster.Resume(rank);
  CHECK(StandingOf(cluster, 1) == Standing::kLost);
  RunUntilDone(cluster, "d");
  CHECK(StandingOf(cluster, 3) == Standing::kLeft);
  CHECK(absl::StrContains(cluster.Operation("d").detail, "rank 1 was lost"));
}

TEST_CASE("a newcomer that is lost on its way is taken in when it comes again", "[ranks_lost]") {
  Cluster cluster(Growing());
  StartUnderLoad(cluster);
  cluster.StartJoining(4);
  cluster.agents[4].stalled = true;
  cluster.AttachAgent(4);
  Admit(cluster, "a", {4});
  cluster.Run(absl::Seconds(1));
  REQUIRE(StandingOf(cluster, 4) == Standing::kJoining);
  cluster.Send(4, Ended());
  cluster.DetachAgent(4);
  cluster.Run(absl::Seconds(1));
  CHECK(StandingOf(cluster, 4) == Standing::kLost);
  CHECK(cluster.StateOf("a") == "running");
  cluster.StartJoining(4);
  cluster.AttachAgent(4);
  RunUntilDone(cluster, "a");
  CHECK(NumLiveOn(cluster, 4) == 6);
}

TEST_CASE("a rank that was lost comes back by itself, unless that is off", "[ranks_lost]") {
  const bool auto_rejoin = GENERATE(true, false);
  Cluster::Options options = Growing();
  options.settings.defaults.auto_rejoin = auto_rejoin;
  options.may_lose_experts = true;
  Cluster cluster(options);
  StartUnderLoad(cluster);
  cluster.Send(0, Ended());
  cluster.DetachAgent(0);
  cluster.Run(absl::Seconds(2));
  REQUIRE(StandingOf(cluster, 0) == Standing::kLost);
  cluster.StartJoining(0);
  cluster.AttachAgent(0);
  CHECK(cluster.RunUntil([&] { return NumLiveOn(cluster, 0) > 0; }, absl::Seconds(20)) == auto_rejoin);
  if (auto_rejoin) return;
  Admit(cluster, "a", {0});
  RunUntilDone(cluster, "a");
}

TEST_CASE("a newcomer that a controller before had taken in is held again until all others know it", "[ranks_lost]") {
  Cluster cluster(Growing());
  StartUnderLoad(cluster);
  cluster.agents[2].stalled = true;
  cluster.StartJoining(4);
  cluster.AttachAgent(4);
  Admit(cluster, "a", {4});
  cluster.Run(absl::Seconds(1));
  REQUIRE(StandingOf(cluster, 4) == Standing::kJoining);

  cluster.RestartController(Stored(cluster));
  cluster.AttachAll();
  cluster.AttachAgent(4);
  cluster.Run(absl::Seconds(3));
  CHECK(cluster.agents[4].epoch == Epoch());
  cluster.Resume(2);
  RunUntilDone(cluster, "a");
  CHECK(NumLiveOn(cluster, 4) == 6);
}

}  // namespace
}  // namespace evenkeel::controller
