// SPDX-License-Identifier: Apache-2.0
//
// A group whose policy is flex: its shares follow what Flex expects, and its plans are made from a copy of it.
#include "controller/core/planning/layer_shares.h"

#include <algorithm>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/flex/flex.h"
#include "algos/imbalance.h"
#include "algos/layer_map.h"
#include "algos/moves.h"
#include "controller/core/planning/compute_plan.h"
#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

constexpr absl::Duration kWindow = absl::Milliseconds(200);
const absl::Duration kSettled = 103 * kWindow;

Cluster::Options Flexible(const std::string& policy = "flex") {
  Cluster::Options options = Basic();
  options.settings.defaults.policy = policy;
  options.settings.defaults.window = kWindow;
  options.settings.defaults.shares_interval = kWindow;
  return options;
}

// Of experts 0 to 3 there are two replicas to begin with.
std::vector<std::vector<uint64_t>> Hot(const Cluster& cluster, size_t first, size_t second) {
  std::vector<uint64_t> layer(static_cast<size_t>(cluster.options.shape.num_experts), 10'000);
  layer[first] = 60'000;
  layer[second] = 40'000;
  return std::vector<std::vector<uint64_t>>(static_cast<size_t>(cluster.options.num_layers), layer);
}

// Mean imbalance of the load that there is, by the maps in force.
double Imbalance(const Cluster& cluster) {
  const GroupMaps maps = *cluster.coordinator->GetMaps(kGroup);
  double sum = 0;
  for (size_t l = 0; l < maps.layers.size(); ++l) {
    sum += algos::LayerImbalance(algos::RankLoads(maps.layers[l].map, cluster.options.shape, cluster.load[l]));
  }
  return sum / static_cast<double>(maps.layers.size());
}

// After the load has shifted from some experts to others and `delay` has passed.
double ImbalanceAfterShift(const std::string& policy, absl::Duration delay) {
  Cluster::Options options = Flexible(policy);
  options.settings.defaults.num_windows_for_shares = 20;
  Cluster cluster(options);
  cluster.load = Hot(cluster, 0, 1);
  Start(cluster);
  cluster.Run(absl::Seconds(6));
  cluster.load = Hot(cluster, 3, 2);
  cluster.Run(delay);
  return Imbalance(cluster);
}

// Moves of the controller's own plans that were begun after `since`.
int MovesSince(const Cluster& cluster, absl::Time since) {
  int moves = 0;
  for (const OperationProgress& operation : cluster.coordinator->ListOperations(kGroup)) {
    if (operation.started >= since) moves += operation.num_moves;
  }
  return moves;
}

TEST_CASE("shares follow a load that shifts sooner than a mean of windows does", "[layer_shares]") {
  const double mean_soon = ImbalanceAfterShift("greedy", 4 * kWindow);
  const double soon = ImbalanceAfterShift("flex", 4 * kWindow);
  CHECK(soon < mean_soon - 0.02);
  // Both end where shares can do no better.
  CHECK(ImbalanceAfterShift("flex", absl::Seconds(8)) ==
        Approx(ImbalanceAfterShift("greedy", absl::Seconds(8))).margin(0.006));
  CHECK(soon == Approx(ImbalanceAfterShift("greedy", absl::Seconds(8))).margin(0.03));
}

TEST_CASE("shares are for ranks as fast as they are said to be", "[layer_shares]") {
  Cluster::Options options = Flexible();
  options.num_layers = 1;
  options.settings.defaults.planning.capacities = {1, 1, 1, 3};
  Cluster cluster(options);
  cluster.load = {std::vector<uint64_t>(8, 20'000)};
  Start(cluster);
  cluster.Run(absl::Seconds(3));
  const GroupMaps maps = *cluster.coordinator->GetMaps(kGroup);
  const auto loads = algos::RankLoads(maps.layers[0].map, cluster.options.shape, cluster.load[0]);
  // The fast rank takes all that it has replicas for.
  const algos::LayerMap even = algos::EvenMap(maps.layers[0].placement, 8);
  const auto even_loads = algos::RankLoads(even, cluster.options.shape, cluster.load[0]);
  CHECK(loads[3] > even_loads[3] + 1000);
  CHECK(*std::max_element(loads.begin(), loads.begin() + 3) <=
        *std::max_element(even_loads.begin(), even_loads.begin() + 3));
}

TEST_CASE("a plan of flex is made from a copy of what follows the group", "[layer_shares]") {
  Cluster cluster(Flexible());
  cluster.load = Hot(cluster, 0, 1);
  Start(cluster);
  cluster.Run(absl::Seconds(4));
  cluster.hold_plans = true;
  cluster.Rearrange("r1", "");
  cluster.Rearrange("r2", "flex", {}, true);
  cluster.Rearrange("r3", "greedy", {}, true);
  RearrangeRequested other{"r4", kGroup, "flex", {}, true};
  other.policy_options = {{"weight_now", 1}};
  cluster.Deliver(other);
  REQUIRE(cluster.plans.size() == 4);
  REQUIRE(cluster.plans[0].flex != nullptr);
  CHECK(cluster.plans[1].flex != nullptr);
  CHECK(cluster.plans[2].flex == nullptr);
  CHECK(cluster.plans[3].flex == nullptr);
  const int num_observed = cluster.plans[0].flex->num_observed();
  CHECK(num_observed >= 20);
  const auto plans = RunPlan(cluster.plans[0]);
  REQUIRE(plans.ok());
  cluster.load = Hot(cluster, 3, 2);
  cluster.Run(absl::Seconds(4));
  CHECK(cluster.plans[0].flex->num_observed() == num_observed);
  CHECK(*RunPlan(cluster.plans[0]) == *plans);

  cluster.Deliver(PlanComputed{cluster.plans[0].plan_id, plans});
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  CHECK(cluster.Operation("r1").num_moves > 0);
  const GroupMaps maps = *cluster.coordinator->GetMaps(kGroup);
  for (size_t l = 0; l < plans->size(); ++l) {
    CHECK(algos::CountMoves(cluster.options.shape, maps.layers[l].placement, (*plans)[l].placement) == 0);
  }
}

TEST_CASE("moves are free of their pace until the load is known, and keep to it then", "[layer_shares]") {
  Cluster::Options options = Flexible();
  options.settings.defaults.placement_enabled = true;
  options.settings.defaults.placement_interval = 10 * kWindow;
  options.settings.defaults.planning.layer_moves_per_100_windows = 1;
  Cluster cluster(options);
  cluster.load = Hot(cluster, 0, 1);
  Start(cluster);
  cluster.Run(kSettled);
  const int num_first = MovesSince(cluster, absl::InfinitePast());
  CHECK(num_first > cluster.options.num_layers);
  const absl::Time settled = cluster.now;
  for (size_t turn = 0; turn < 4; ++turn) {
    cluster.load = turn % 2 == 0 ? Hot(cluster, 6, 7) : Hot(cluster, 2, 3);
    cluster.Run(50 * kWindow);
  }
  CHECK(MovesSince(cluster, settled) > 0);
  // One is saved, two come in 200 windows.
  CHECK(MovesSince(cluster, settled) <= 3 * cluster.options.num_layers);
}

TEST_CASE("a group without load is left alone", "[layer_shares]") {
  Cluster::Options options = Flexible();
  options.settings.defaults.placement_enabled = true;
  options.settings.defaults.placement_interval = 10 * kWindow;
  Cluster cluster(options);
  Start(cluster);
  const size_t num_updates = cluster.updates.size();
  cluster.Run(absl::Seconds(10));
  CHECK(cluster.updates.size() == num_updates);
  CHECK(cluster.orders.empty());
  CHECK(cluster.plans.empty());
  SECTION("an operator may ask all the same") {
    cluster.Rearrange("r1", "flex");
    REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  }
}

TEST_CASE("windows without load are not told to flex", "[layer_shares]") {
  Cluster cluster(Flexible());
  cluster.load = Hot(cluster, 0, 1);
  Start(cluster);
  cluster.Run(absl::Seconds(2));
  cluster.load.clear();
  cluster.Run(absl::Seconds(3));
  cluster.hold_plans = true;
  cluster.Rearrange("r1", "", {}, true);
  REQUIRE(cluster.plans.size() == 1);
  REQUIRE(cluster.plans[0].flex != nullptr);
  CHECK(cluster.plans[0].flex->num_observed() >= 10);
  CHECK(cluster.plans[0].flex->num_observed() <= 16);
}

TEST_CASE("two groups that go through the same end the same", "[layer_shares]") {
  const auto run = [] {
    Cluster::Options options = Flexible();
    options.settings.defaults.placement_enabled = true;
    options.settings.defaults.placement_interval = 10 * kWindow;
    Cluster cluster(options);
    cluster.load = Hot(cluster, 0, 1);
    Start(cluster);
    cluster.Run(absl::Seconds(8));
    cluster.load = Hot(cluster, 5, 2);
    cluster.Run(absl::Seconds(8));
    REQUIRE(cluster.Status().totals.moves > 0);
    return std::pair(cluster.trace, cluster.coordinator->GetMaps(kGroup)->layers[0].map);
  };
  CHECK(run() == run());
}

}  // namespace
}  // namespace evenkeel::controller
