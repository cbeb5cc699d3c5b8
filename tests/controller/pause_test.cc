// SPDX-License-Identifier: Apache-2.0
//
// A paused group is left alone by the controller itself, and by nobody else.
#include "controller/core/pause.h"

#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

Cluster::Options PlansEvery5s() {
  Cluster::Options options = Basic();
  options.settings.defaults.placement_enabled = true;
  options.settings.defaults.placement_interval = absl::Seconds(5);
  options.settings.defaults.num_windows_for_placement = 4;
  return options;
}

size_t NumOperations(const Cluster& cluster) { return cluster.coordinator->ListOperations().size(); }

TEST_CASE("a paused group is neither planned nor shared anew, until it is resumed", "[pause]") {
  Cluster cluster(PlansEvery5s());
  Start(cluster);
  cluster.Deliver(PauseRequested{"p1", kGroup, "a benchmark runs"});
  CHECK(cluster.Status().paused_by == "p1");
  CHECK(cluster.Status().pause_reason == "a benchmark runs");
  CHECK(cluster.StateOf("p1") == "running");
  const Epoch epoch = cluster.Status().epoch;
  cluster.load = Skewed(cluster);
  cluster.Run(absl::Seconds(30));
  CHECK(NumOperations(cluster) == 1);
  CHECK(cluster.Status().epoch == epoch);
  CHECK(cluster.Status().ineffective.empty());  // somebody wants it so
  CHECK(cluster.coordinator->NextWakeup() > cluster.now);
  cluster.Deliver(ResumeRequested{kGroup});
  CHECK(cluster.StateOf("p1") == "done");
  CHECK(cluster.Status().paused_by.empty());
  CHECK(cluster.RunUntil([&] { return cluster.Status().totals.moves > 0; }));
  CHECK(cluster.Status().epoch > epoch);
}

TEST_CASE("what an operator asks of a paused group is done", "[pause]") {
  Cluster cluster(PlansEvery5s());
  Start(cluster);
  cluster.Deliver(PauseRequested{"p1", kGroup, ""});
  cluster.load = Skewed(cluster);
  cluster.Run(absl::Seconds(4));
  cluster.Rearrange("r1");
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  CHECK(cluster.Status().totals.moves > 0);
  CHECK(cluster.Status().paused_by == "p1");
}

TEST_CASE("a plan of its own that is being computed is dropped by a pause", "[pause]") {
  Cluster cluster(PlansEvery5s());
  cluster.hold_plans = true;
  StartUnderLoad(cluster);
  REQUIRE(cluster.RunUntil([&] { return !cluster.plans.empty(); }));
  const std::string planned = cluster.coordinator->ListOperations()[0].id;
  cluster.Deliver(PauseRequested{"p1", kGroup, ""});
  CHECK(cluster.StateOf(planned) == "superseded");
  CHECK(cluster.Operation(planned).detail == "the group was paused by p1");
  cluster.hold_plans = false;
  cluster.Run(absl::Seconds(10));
  CHECK(cluster.Status().totals.moves == 0);
}

TEST_CASE("the next controller goes on pausing, and its resume ends the same operation", "[pause]") {
  Cluster cluster(PlansEvery5s());
  Start(cluster);
  cluster.Deliver(PauseRequested{"p1", kGroup, "upgrade"});
  cluster.RestartController({cluster.Operation("p1")});
  cluster.AttachAll();
  cluster.load = Skewed(cluster);
  cluster.Run(absl::Seconds(20));
  CHECK(cluster.Status().paused_by == "p1");
  CHECK(cluster.Status().pause_reason == "upgrade");
  CHECK(NumOperations(cluster) == 1);
  cluster.Deliver(ResumeRequested{kGroup});
  CHECK(cluster.StateOf("p1") == "done");
  CHECK(cluster.RunUntil([&] { return cluster.Status().totals.moves > 0; }));
}

TEST_CASE("a second pause changes nothing; to cancel its operation ends a pause too", "[pause]") {
  Cluster cluster(PlansEvery5s());
  Start(cluster);
  cluster.Deliver(PauseRequested{"p1", kGroup, "one"});
  cluster.Deliver(PauseRequested{"p2", kGroup, "two"});
  CHECK(cluster.Status().pause_reason == "one");
  CHECK_FALSE(cluster.coordinator->GetOperation("p2").ok());
  cluster.Deliver(CancelRequested{"p1"});
  CHECK(cluster.StateOf("p1") == "cancelled");
  CHECK(cluster.Status().paused_by.empty());
}

}  // namespace
}  // namespace evenkeel::controller
