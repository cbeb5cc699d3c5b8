// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>
#include <tuple>

#include "catch2/catch.hpp"

#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

TEST_CASE("a rearrangement reaches its target by safe waves and says so", "[coordinator]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.Rearrange("r1");
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  const OperationProgress operation = cluster.Operation("r1");
  CHECK(operation.num_layers == 2);
  CHECK(operation.num_layers_done == 2);
  CHECK(operation.num_moves_done > 0);
  CHECK(operation.bytes_done == 1000u * static_cast<uint64_t>(operation.num_moves_done));
  CHECK(operation.num_waves > 0);
  CHECK(cluster.Status().totals.rollouts == 2);
  CHECK(cluster.Status().totals.moves == static_cast<uint64_t>(operation.num_moves_done));
  CHECK(Steady(cluster));
  // No two orders for the same generation of a slot.
  std::set<std::tuple<int, int, uint64_t>> seen;
  for (const MoveOrder& order : cluster.orders) {
    CHECK(seen.emplace(order.layer.value(), order.slot.value(), order.generation).second);
  }
}

TEST_CASE("a known request id changes nothing", "[coordinator]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.Rearrange("r1");
  cluster.Run(absl::Seconds(5));
  REQUIRE(cluster.StateOf("r1") == "done");
  const size_t orders = cluster.orders.size(), persisted = cluster.persisted.size();
  cluster.Rearrange("r1");
  CHECK(cluster.orders.size() == orders);
  CHECK(cluster.persisted.size() == persisted);
}

TEST_CASE("a dry run plans and reports and changes nothing", "[coordinator]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.Rearrange("d1", "greedy", {}, true);
  CHECK(cluster.StateOf("d1") == "done");
  const OperationProgress operation = cluster.Operation("d1");
  CHECK(operation.num_moves > 0);
  CHECK(operation.num_moves_done == 0);
  CHECK(operation.imbalance_predicted < operation.imbalance_before);
  CHECK(operation.detail.rfind("dry run", 0) == 0);
  cluster.Run(absl::Seconds(3));
  CHECK(cluster.orders.empty());
  CHECK(cluster.Status().totals.waves == 0);
}

TEST_CASE("a dry run that its controller did not finish is not carried out by the next", "[coordinator]") {
  OperationProgress old;
  old.id = "d0";
  old.group = kGroup;
  old.policy = "greedy";
  old.dry_run = true;
  Cluster cluster(Basic());
  cluster.RestartController({old});
  StartUnderLoad(cluster);
  cluster.Run(absl::Seconds(5));
  CHECK(cluster.StateOf("d0") == "superseded");
  CHECK(cluster.orders.empty());
  CHECK(cluster.coordinator->ListOperations().size() == 1);
}

TEST_CASE("requests that cannot be carried out fail with the reason", "[coordinator]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.Deliver(RearrangeRequested{"a", "nobody", "", {}, false});
  CHECK(cluster.Operation("a").detail == "unknown group nobody; known: [g]");
  cluster.Rearrange("b", "greedy", {LayerId(2)});
  CHECK(cluster.Operation("b").detail == "rearrange: unknown layer 2; the group has 2 layers");
  cluster.Rearrange("c", "nonsense");
  CHECK(cluster.StateOf("c") == "failed");
  CHECK(cluster.Operation("c").detail.find("nonsense") != std::string::npos);
}

TEST_CASE("a rearrangement during a rearrangement is refused, unless the controller's own", "[coordinator]") {
  Cluster::Options options = Basic();
  options.settings.defaults.placement_enabled = true;
  options.settings.defaults.placement_interval = absl::Seconds(3);
  Cluster cluster(options);
  cluster.load = Skewed(cluster);
  for (FakeAgent& agent : cluster.agents) agent.holds_moves = true;
  Start(cluster);
  REQUIRE(cluster.RunUntil([&] { return !cluster.Status().running_operation.empty(); }));
  const std::string own = cluster.Status().running_operation;
  CHECK(cluster.Operation(own).cause == Cause::kSlowLoop);
  cluster.Run(absl::Milliseconds(200));
  cluster.Rearrange("r1");
  CHECK(cluster.StateOf(own) == "superseded");
  CHECK(cluster.StateOf("r1") == "running");
  cluster.Rearrange("r2");
  CHECK(cluster.StateOf("r2") == "failed");
  CHECK(cluster.Operation("r2").detail == "rearrangement r1 is running");
  for (int r = 0; r < 4; ++r) cluster.Resume(r);
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
}

TEST_CASE("an operator's id that looks like the controller's own is passed over", "[coordinator]") {
  Cluster::Options options = Basic();
  options.settings.defaults.placement_enabled = true;
  options.settings.defaults.placement_interval = absl::Seconds(3);
  Cluster cluster(options);
  cluster.load = Skewed(cluster);
  Start(cluster);
  cluster.Rearrange("g-1-1", "greedy", {}, true);
  cluster.Run(absl::Seconds(4));
  CHECK(cluster.Operation("g-1-1").cause == Cause::kOperator);
  CHECK(cluster.Operation("g-1-2").cause == Cause::kSlowLoop);
}

TEST_CASE("only the asked layers are rearranged", "[coordinator]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.Rearrange("r1", "greedy", {LayerId(1)});
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  CHECK(cluster.Operation("r1").num_layers == 1);
  CHECK(std::all_of(cluster.orders.begin(), cluster.orders.end(),
                    [](const MoveOrder& order) { return order.layer == LayerId(1); }));
}

TEST_CASE("an expert lost in one layer does not keep another from being rearranged", "[coordinator]") {
  Cluster::Options options = Basic();
  options.may_lose_experts = true;
  Cluster cluster(options);
  StartUnderLoad(cluster);
  for (int rank = 0; rank < 4; ++rank) {
    for (int local = 0; local < 3; ++local) {
      const SlotIdx slot = cluster.options.shape.SlotAt(RankId(rank), local);
      SlotRecord& record = cluster.agents[static_cast<size_t>(rank)].slots[static_cast<size_t>(local)];
      if (record.expert != ExpertId(7)) continue;
      record.state = SlotState::kFree;
      cluster.Send(rank, SlotLost{LayerId(0), slot, record.generation});
    }
  }
  REQUIRE(cluster.coordinator->CheckRedundancy(kGroup)->layers[0].replicas_of_expert[7] == 0);
  cluster.Rearrange("r1", "greedy", {LayerId(1)});
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
}

TEST_CASE("placements that are named are taken over as they are, and kept while the policy is static",
          "[coordinator]") {
  Cluster::Options options = Basic();
  options.settings.defaults.policy = "static";
  options.settings.defaults.placement_enabled = true;
  options.settings.defaults.placement_interval = absl::Seconds(5);
  Cluster cluster(options);
  StartUnderLoad(cluster);
  std::vector<algos::Placement> placements(2);
  for (size_t layer = 0; layer < 2; ++layer) {
    for (int slot = 0; slot < 12; ++slot) {
      placements[layer].expert_of_slot.push_back(ExpertId((slot * 5 + static_cast<int>(layer)) % 8));
    }
  }
  RearrangeRequested request{"s1", kGroup, "static", {}, false};
  request.placements = placements;
  cluster.Deliver(request);
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("s1") == "done"; }));
  cluster.Run(absl::Seconds(20));
  CHECK(cluster.Status().totals.rollouts == 2);
  for (int layer = 0; layer < 2; ++layer) {
    const auto by_rank = ByRank(cluster, layer);
    for (size_t rank = 0; rank < 4; ++rank) {
      std::multiset<int> wanted;
      for (size_t slot = 3 * rank; slot < 3 * rank + 3; ++slot) {
        wanted.insert(placements[static_cast<size_t>(layer)].expert_of_slot[slot].value());
      }
      CHECK(by_rank[rank] == wanted);
    }
  }
}

TEST_CASE("a plan that was overtaken is dropped", "[coordinator]") {
  Cluster::Options options = Basic();
  options.settings.defaults.placement_enabled = true;
  options.settings.defaults.placement_interval = absl::Seconds(3);
  Cluster cluster(options);
  cluster.load = Skewed(cluster);
  cluster.hold_plans = true;
  Start(cluster);
  REQUIRE(cluster.RunUntil([&] { return cluster.plans.size() == 1; }));
  const ComputePlan old = cluster.plans.front();
  cluster.Rearrange("r1");
  REQUIRE(cluster.plans.size() == 2);
  std::vector<algos::Placement> target(2, algos::DefaultPlacement(options.shape));
  std::reverse(target[0].expert_of_slot.begin(), target[0].expert_of_slot.end());
  cluster.Deliver(PlanComputed{old.plan_id, algos::WithEvenShares(target)});
  CHECK(cluster.orders.empty());
  CHECK(cluster.Status().running_operation.empty());
}

TEST_CASE("the fast loop changes shares without a move and leaves noise alone", "[coordinator]") {
  Cluster cluster(Basic());
  SECTION("load") {
    cluster.load = Skewed(cluster);
    Start(cluster);
    cluster.Run(absl::Seconds(5));
    CHECK(cluster.Status().totals.shares_updates >= 1);
    CHECK(cluster.orders.empty());
    CHECK(cluster.Status().imbalance_predicted < cluster.Status().imbalance_initial);
    const uint64_t updates = cluster.Status().totals.shares_updates;
    cluster.Run(absl::Seconds(20));
    CHECK(cluster.Status().totals.shares_updates <= updates + 1);  // steady load: nothing to gain
    const GroupStats stats = *cluster.coordinator->GetStats(kGroup, {.num_windows = 5, .span = {}}, cluster.now);
    CHECK(stats.windows.size() == 5);
    CHECK(stats.tokens > 0);
    CHECK(stats.imbalance_realised < stats.imbalance_initial);
    CHECK(stats.imbalance_realised == Approx(stats.imbalance_predicted).margin(0.01));
  }
  SECTION("noise") {
    cluster.load.assign(2, std::vector<uint64_t>(8, 10));
    cluster.load[0][0] = cluster.load[1][0] = 40;
    Start(cluster);
    cluster.Run(absl::Seconds(5));
    CHECK(cluster.Status().totals.shares_updates == 0);
    CHECK(cluster.Status().totals.publishes == 1);
  }
}

TEST_CASE("the slow loop rearranges by itself, then says why it does not", "[coordinator]") {
  Cluster::Options options = Basic();
  options.settings.defaults.placement_enabled = true;
  options.settings.defaults.placement_interval = absl::Seconds(5);
  Cluster cluster(options);
  cluster.load = Skewed(cluster);
  Start(cluster);
  REQUIRE(cluster.RunUntil([&] { return cluster.Status().totals.rollouts > 0 && Steady(cluster); }));
  REQUIRE(cluster.RunUntil([&] {
    const auto list = cluster.coordinator->ListOperations(kGroup);
    return list.front().state == OperationState::kSkipped;
  }));
  CHECK_FALSE(cluster.coordinator->ListOperations(kGroup).front().detail.empty());
}

}  // namespace
}  // namespace evenkeel::controller
