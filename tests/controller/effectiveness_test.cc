// SPDX-License-Identifier: Apache-2.0
//
// Balancing that is on and does nothing says so, and why; so does how long each part of it takes.
#include "controller/core/planning/effectiveness.h"

#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "catch2/catch.hpp"

#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

// Whether some line says `part`.
bool Says(const Cluster& cluster, const std::string& part) {
  for (const std::string& why : cluster.Status().ineffective) {
    if (absl::StrContains(why, part)) return true;
  }
  return false;
}

TEST_CASE("a group under load is effective; one that counts none for long is not", "[effectiveness]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  EngineStatus running;
  running.called_begin_step = running.called_end_step = running.called_route = true;
  running.num_steps = 5;
  const auto run = [&](int seconds) {
    for (int i = 0; i < seconds; ++i) {
      for (int rank = 0; rank < 4; ++rank) cluster.Send(rank, running);
      cluster.Run(absl::Seconds(1));
    }
  };
  run(5);
  CHECK(cluster.Status().ineffective.empty());
  cluster.load.clear();
  run(25);
  CHECK(cluster.Status().ineffective.empty());  // not for long yet
  run(10);
  CHECK(Says(cluster, "engines run, but no load was counted for 3"));
  running.idle = true;
  run(1);
  CHECK(cluster.Status().ineffective.empty());
}

TEST_CASE("a missing call and static maps are named; what is switched off is not", "[effectiveness]") {
  Cluster::Options options = Basic();
  options.routing = Routing::kReplicated;
  Cluster cluster(options);
  Start(cluster);
  EngineStatus status;
  status.called_begin_step = status.called_end_step = true;
  cluster.Send(2, status);
  cluster.Run(absl::Seconds(9));
  CHECK(Says(cluster, "the engine of rank 2 never called route"));
  CHECK(Says(cluster, "static maps"));
  options.settings.defaults.shares_enabled = false;
  Cluster off(options);
  Start(off);
  CHECK(off.Status().ineffective.empty());
}

TEST_CASE("waves that a rank holds up are named after some", "[effectiveness]") {
  Cluster::Options options = Basic();
  options.settings.defaults.wave_deadline = absl::Seconds(1);
  Cluster cluster(options);
  StartUnderLoad(cluster);
  cluster.agents[1].stalled = true;
  cluster.Rearrange("r1");
  CHECK(cluster.RunUntil([&] { return Says(cluster, "rank 1 held up 3 waves in a row"); }));
  CHECK(cluster.Status().members[1].quiescence_lag > absl::Seconds(1));
  CHECK(cluster.Status().members[0].quiescence_lag == absl::ZeroDuration());
}

TEST_CASE("an operation tells how long it was planned, waited for ranks and moved", "[effectiveness]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  for (FakeAgent& agent : cluster.agents) agent.holds_moves = true;
  cluster.agents[2].stalled = true;
  cluster.Rearrange("r1");
  cluster.Run(absl::Milliseconds(500));
  cluster.Resume(2);
  cluster.agents[2].holds_moves = true;
  cluster.Run(absl::Milliseconds(700));
  for (int rank = 0; rank < 4; ++rank) cluster.Resume(rank);
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  const OperationProgress operation = cluster.Operation("r1");
  CHECK(operation.retiring >= absl::Milliseconds(400));
  CHECK(operation.moving >= absl::Milliseconds(600));
  CHECK(cluster.Status().totals.retiring == operation.retiring);
  CHECK(cluster.Status().totals.moving == operation.moving);
}

TEST_CASE("each publish of shares is counted by how long after the window it came", "[effectiveness]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  const GroupTotals totals = cluster.Status().totals;
  REQUIRE(totals.shares_updates > 0);
  const auto& counts = totals.shares_latency.counts;
  CHECK(std::accumulate(counts.begin(), counts.end(), uint64_t{0}) == totals.shares_updates);
  CHECK(totals.shares_latency.sum < absl::Seconds(10));
  LatencyCounts latency;
  for (const absl::Duration d : {absl::Microseconds(100), absl::Microseconds(101), absl::Seconds(3)}) latency.Add(d);
  CHECK(latency.counts.front() == 1);
  CHECK(latency.counts[1] == 1);
  CHECK(latency.counts.back() == 1);
}

}  // namespace
}  // namespace evenkeel::controller
