// SPDX-License-Identifier: Apache-2.0
//
// How much the controller does by itself, by mode.
#include "controller/core/set_mode.h"

#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "controller/core/mode.h"
#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

Cluster::Options InMode(Mode mode) {
  Cluster::Options options = Basic();
  options.settings.defaults.mode = mode;
  options.settings.defaults.placement_enabled = true;
  options.settings.defaults.placement_interval = absl::Seconds(5);
  options.settings.defaults.num_windows_for_placement = 4;
  return options;
}

void SetModeOf(Cluster& cluster, const std::string& id, Mode mode) {
  cluster.Deliver(SetModeRequested{id, kGroup, mode, "tests", "ann"});
}

// Operations that the controller began by itself.
std::vector<OperationProgress> Own(const Cluster& cluster) {
  std::vector<OperationProgress> own = cluster.coordinator->ListOperations();
  std::erase_if(own, [](const OperationProgress& operation) { return operation.for_operator; });
  return own;
}

TEST_CASE("modes have names, and nothing else is one", "[set_mode]") {
  for (const Mode mode : {Mode::kOff, Mode::kRecord, Mode::kShadow, Mode::kShares, Mode::kFull}) {
    CHECK(*ParseMode(NameOf(mode)) == mode);
  }
  CHECK(ParseMode("On").status().message() == "mode is 'On': off, record, shadow, shares or full wanted");
}

TEST_CASE("each mode keeps, decides and does what it says, and no more", "[set_mode]") {
  const Mode mode = GENERATE(Mode::kOff, Mode::kRecord, Mode::kShadow, Mode::kShares, Mode::kFull);
  CAPTURE(NameOf(mode));
  Cluster cluster(InMode(mode));
  Start(cluster);
  cluster.load = Skewed(cluster);
  cluster.Run(absl::Seconds(30));
  const GroupStatus status = cluster.Status();
  CHECK(status.mode == mode);
  CHECK((status.totals.tokens > 0) == (mode != Mode::kOff));
  CHECK((status.imbalance_now > 0) == (mode != Mode::kOff));
  CHECK((status.totals.shares_updates > 0) == (mode == Mode::kShares || mode == Mode::kFull));
  CHECK((status.totals.shares_shadowed > 0) == (mode == Mode::kShadow));
  CHECK((status.totals.moves > 0) == (mode == Mode::kFull));
  CHECK(Own(cluster).empty() == (mode == Mode::kOff || mode == Mode::kRecord || mode == Mode::kShares));
  CHECK(status.ineffective.empty());
}

TEST_CASE("what shadow decides is recorded with its gain, and not done", "[set_mode]") {
  Cluster cluster(InMode(Mode::kShadow));
  StartUnderLoad(cluster);
  cluster.Run(absl::Seconds(10));
  const Epoch epoch = cluster.Status().epoch;
  REQUIRE_FALSE(Own(cluster).empty());
  const OperationProgress decided = Own(cluster)[0];
  CHECK(decided.state == OperationState::kSkipped);
  CHECK(decided.detail.find("mode shadow, not carried out: 2 of 2 layers") == 0);
  CHECK(decided.imbalance_predicted < decided.imbalance_before);
  CHECK(decided.num_moves > 0);
  CHECK(decided.num_moves_done == 0);
  REQUIRE(decided.decisions != nullptr);
  CHECK(decided.decisions->at(0).act);
  CHECK(cluster.Status().shadow_layers == 2);
  CHECK(cluster.Status().shadow_after < cluster.Status().shadow_before);
  cluster.Run(absl::Seconds(20));
  CHECK(cluster.orders.empty());
  CHECK(cluster.Status().epoch == epoch);
}

TEST_CASE("another mode is in force at once, and until the next is set", "[set_mode]") {
  Cluster cluster(InMode(Mode::kFull));
  Start(cluster);
  SetModeOf(cluster, "m1", Mode::kRecord);
  CHECK(cluster.Status().mode_set_by == "m1");
  CHECK(cluster.StateOf("m1") == "running");
  CHECK(cluster.Operation("m1").requested_by == "ann");
  CHECK(cluster.Operation("m1").request == "SetMode");
  cluster.load = Skewed(cluster);
  cluster.Run(absl::Seconds(20));
  CHECK(cluster.Status().totals.shares_updates == 0);
  SetModeOf(cluster, "m2", Mode::kShares);
  CHECK(cluster.StateOf("m1") == "done");
  CHECK(cluster.Operation("m1").detail == "until m2 set mode shares");
  cluster.Run(absl::Seconds(20));
  CHECK(cluster.Status().totals.shares_updates > 0);
  CHECK(cluster.orders.empty());
  SetModeOf(cluster, "m3", Mode::kFull);  // the configured one: nothing stands for it
  CHECK(cluster.StateOf("m3") == "done");
  CHECK(cluster.Status().mode_set_by.empty());
  CHECK(cluster.RunUntil([&] { return cluster.Status().totals.moves > 0; }));
}

TEST_CASE("a plan of its own is dropped by a mode that plans nothing", "[set_mode]") {
  Cluster cluster(InMode(Mode::kFull));
  cluster.hold_plans = true;
  StartUnderLoad(cluster);
  REQUIRE(cluster.RunUntil([&] { return !cluster.plans.empty(); }));
  const std::string planned = Own(cluster)[0].id;
  SetModeOf(cluster, "m1", Mode::kShares);
  CHECK(cluster.StateOf(planned) == "superseded");
  CHECK(cluster.Operation(planned).detail == "mode shares was set by m1");
}

TEST_CASE("the next controller goes on in the mode that was set; to cancel it gives the configured one", "[set_mode]") {
  Cluster cluster(InMode(Mode::kFull));
  Start(cluster);
  SetModeOf(cluster, "m1", Mode::kOff);
  cluster.RestartController({cluster.Operation("m1")});
  cluster.AttachAll();
  cluster.load = Skewed(cluster);
  cluster.Run(absl::Seconds(20));
  CHECK(cluster.Status().mode == Mode::kOff);
  CHECK(cluster.Status().totals.tokens == 0);
  cluster.Deliver(CancelRequested{"m1", "bob"});
  CHECK(cluster.StateOf("m1") == "cancelled");
  CHECK(cluster.Operation("m1").ended_by == "bob");
  CHECK(cluster.Status().mode == Mode::kFull);
  CHECK(cluster.RunUntil([&] { return cluster.Status().totals.moves > 0; }));
}

TEST_CASE("what an operator asks for is done in every mode", "[set_mode]") {
  const Mode mode = GENERATE(Mode::kOff, Mode::kRecord, Mode::kShadow, Mode::kShares);
  CAPTURE(NameOf(mode));
  Cluster cluster(InMode(mode));
  StartUnderLoad(cluster);
  RearrangeRequested request{"r1", kGroup, "greedy", {}};
  for (const std::vector<uint64_t>& layer : Skewed(cluster)) {
    request.load.insert(request.load.end(), layer.begin(), layer.end());
  }
  cluster.Deliver(request);
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  CHECK(cluster.Status().totals.moves > 0);
}

}  // namespace
}  // namespace evenkeel::controller
