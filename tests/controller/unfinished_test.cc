// SPDX-License-Identifier: Apache-2.0
//
// Operations that do not end by themselves: a controller that is followed by another, and an operator who cancels.
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "catch2/catch.hpp"

#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

// As a store would give it back: each id once, in its last state.
std::vector<OperationProgress> Stored(const Cluster& cluster) {
  std::vector<OperationProgress> operations;
  for (const OperationProgress& persisted : cluster.persisted) {
    std::erase_if(operations, [&](const OperationProgress& operation) { return operation.id == persisted.id; });
    operations.push_back(persisted);
  }
  return operations;
}

std::optional<OperationProgress> FindTakeover(const Cluster& cluster) {
  for (const OperationProgress& operation : cluster.coordinator->ListOperations()) {
    if (operation.cause == Cause::kTakeover) return operation;
  }
  return std::nullopt;
}

// All ranks hold the move orders of a rearrangement of `layers` that has begun.
void BeginAndHold(Cluster& cluster, std::vector<LayerId> layers) {
  StartUnderLoad(cluster);
  for (FakeAgent& agent : cluster.agents) agent.holds_moves = true;
  cluster.Rearrange("r1", "greedy", std::move(layers));
  cluster.Run(absl::Milliseconds(200));
  REQUIRE(cluster.StateOf("r1") == "running");
  REQUIRE_FALSE(cluster.orders.empty());
}

void ResumeAll(Cluster& cluster) {
  for (int rank = 0; rank < 4; ++rank) cluster.Resume(rank);
}

TEST_CASE("the next controller goes on with the layers that an operator named, and with no others", "[unfinished]") {
  Cluster::Options options = Basic();
  options.num_layers = 3;
  Cluster cluster(options);
  BeginAndHold(cluster, {LayerId(1)});
  const auto first = ByRank(cluster, 0), third = ByRank(cluster, 2);
  cluster.RestartController(Stored(cluster));
  cluster.AttachAll();
  ResumeAll(cluster);
  REQUIRE(cluster.RunUntil([&] {
    const auto takeover = FindTakeover(cluster);
    return takeover.has_value() && takeover->state == OperationState::kDone;
  }));
  CHECK(cluster.StateOf("r1") == "superseded");
  const OperationProgress takeover = *FindTakeover(cluster);
  CHECK(takeover.layers == std::vector<LayerId>{LayerId(1)});
  CHECK(takeover.for_operator);
  CHECK(takeover.policy == "greedy");
  CHECK(ByRank(cluster, 0) == first);
  CHECK(ByRank(cluster, 2) == third);
  cluster.Run(absl::Minutes(3));  // placement is not enabled: nothing follows
  CHECK(cluster.coordinator->ListOperations().size() == 2);
  for (const MoveOrder& order : cluster.orders) CHECK(order.layer == LayerId(1));
}

TEST_CASE("what a takeover goes on with is itself gone on with by the next", "[unfinished]") {
  Cluster cluster(Basic());
  BeginAndHold(cluster, {LayerId(1)});
  cluster.RestartController(Stored(cluster));
  cluster.AttachAll();
  REQUIRE(cluster.RunUntil([&] { return FindTakeover(cluster).has_value(); }));
  const std::string second = FindTakeover(cluster)->id;
  cluster.RestartController(Stored(cluster));
  cluster.AttachAll();
  ResumeAll(cluster);
  REQUIRE(cluster.RunUntil([&] {
    const auto takeover = FindTakeover(cluster);
    return takeover.has_value() && takeover->id != second && takeover->state == OperationState::kDone;
  }));
  CHECK(FindTakeover(cluster)->layers == std::vector<LayerId>{LayerId(1)});
}

TEST_CASE("what the slow loop left is not gone on with where placement is no longer enabled", "[unfinished]") {
  OperationProgress left;
  left.id = "g-1-1";
  left.group = Cluster::kGroup;
  left.cause = Cause::kSlowLoop;
  left.state = OperationState::kRunning;
  left.policy = "greedy";
  Cluster::Options options = Basic();
  options.settings.stored_operations = {left};
  Cluster cluster(options);
  StartUnderLoad(cluster);
  cluster.Run(absl::Minutes(3));
  CHECK(cluster.StateOf("g-1-1") == "superseded");
  CHECK(cluster.coordinator->ListOperations().size() == 1);
  CHECK(cluster.orders.empty());
}

TEST_CASE("a cancelled rearrangement ends with the wave at hand and keeps what was moved", "[unfinished]") {
  Cluster cluster(Basic());
  BeginAndHold(cluster, {});
  cluster.Deliver(CancelRequested{"r1"});
  CHECK(cluster.StateOf("r1") == "running");
  CHECK(cluster.Operation("r1").cancel_requested);
  CHECK(cluster.cancels.empty());
  const size_t num_orders = cluster.orders.size();
  const auto before = ByRank(cluster, 0);
  ResumeAll(cluster);
  cluster.Run(absl::Seconds(2));
  CHECK(cluster.StateOf("r1") == "cancelled");
  CHECK(cluster.Operation("r1").num_moves_done == static_cast<int>(num_orders));
  CHECK(absl::StrContains(cluster.Operation("r1").detail, "cancelled after"));
  CHECK(cluster.orders.size() == num_orders);
  CHECK(ByRank(cluster, 0) != before);
  CHECK(Steady(cluster));
  CHECK(cluster.Status().running_operation.empty());
  const GroupMaps maps = *cluster.coordinator->GetMaps(Cluster::kGroup);
  for (const LayerMapStatus& layer : maps.layers) {
    for (const SlotStatus& slot : layer.slots) CHECK(slot.use == SlotUse::kLive);
  }
  cluster.Rearrange("r2");
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r2") == "done"; }));
}

TEST_CASE("a rearrangement that a silent rank holds up can be cancelled", "[unfinished]") {
  Cluster::Options options = Basic();
  options.settings.defaults.wave_deadline = absl::Seconds(4);
  Cluster cluster(options);
  BeginAndHold(cluster, {});
  cluster.DetachAgent(1);
  cluster.Run(absl::Minutes(5));
  CHECK(cluster.StateOf("r1") == "running");  // silence freezes waves
  cluster.Deliver(CancelRequested{"r1"});
  cluster.Run(absl::Seconds(40));
  CHECK(cluster.StateOf("r1") == "cancelled");
  cluster.AttachAgent(1);
  ResumeAll(cluster);
  cluster.Rearrange("r2");
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r2") == "done"; }));
}

TEST_CASE("what is only planned is cancelled at once, what has ended or is unknown stays as it is", "[unfinished]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.hold_plans = true;
  cluster.Rearrange("r1");
  REQUIRE(cluster.StateOf("r1") == "planning");
  cluster.Deliver(CancelRequested{"r1"});
  CHECK(cluster.StateOf("r1") == "cancelled");
  REQUIRE(cluster.plans.size() == 1);
  const ComputePlan plan = cluster.plans.front();
  cluster.Deliver(PlanComputed{plan.plan_id, absl::AbortedError("too late")});
  CHECK(cluster.StateOf("r1") == "cancelled");
  const size_t num_persisted = cluster.persisted.size();
  cluster.Deliver(CancelRequested{"r1"});
  cluster.Deliver(CancelRequested{"r9"});
  CHECK(cluster.persisted.size() == num_persisted);
  CHECK(cluster.orders.empty());
}

TEST_CASE("the next controller does not go on with what was cancelled", "[unfinished]") {
  Cluster cluster(Basic());
  BeginAndHold(cluster, {});
  cluster.Deliver(CancelRequested{"r1"});
  cluster.RestartController(Stored(cluster));
  cluster.AttachAll();
  ResumeAll(cluster);
  cluster.Run(absl::Minutes(1));
  CHECK(cluster.StateOf("r1") == "cancelled");
  CHECK_FALSE(FindTakeover(cluster).has_value());
}

}  // namespace
}  // namespace evenkeel::controller
