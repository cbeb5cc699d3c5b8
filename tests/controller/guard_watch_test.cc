// SPDX-License-Identifier: Apache-2.0
//
// A group whose engines grow slow is moved gently, and what slowed them down is undone.
#include "controller/core/planning/guard_watch.h"

#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

constexpr absl::Duration kMs = absl::Milliseconds(1);

void StepsTake(Cluster& cluster, absl::Duration time) {
  for (FakeAgent& agent : cluster.agents) agent.mean_step_time = time;
}

Cluster::Options Guarded() {
  Cluster::Options options = Basic();
  options.settings.defaults.guard.window = absl::Seconds(2);
  options.settings.defaults.guard.rest = absl::Minutes(5);
  return options;
}

Cluster::Options Plans(Cluster::Options options) {
  options.settings.defaults.placement_enabled = true;
  options.settings.defaults.placement_interval = absl::Seconds(5);
  options.settings.defaults.num_windows_for_placement = 4;
  return options;
}

const OperationProgress* FirstOf(const std::vector<OperationProgress>& operations, Cause cause) {
  for (const OperationProgress& operation : operations) {
    if (operation.cause == cause) return &operation;
  }
  return nullptr;
}

}  // namespace

TEST_CASE("no wave begins while steps are above the budget, and moves go on when they are not", "[guard]") {
  Cluster::Options options = Guarded();
  options.settings.defaults.guard.step_time_p99_max = 25 * kMs;
  options.settings.defaults.guard.window = absl::Seconds(20);
  options.settings.defaults.concurrent_layers_max = 1;
  Cluster cluster(options);
  StepsTake(cluster, 20 * kMs);
  StartUnderLoad(cluster);
  CHECK(cluster.Status().guard_pace == "free");
  for (FakeAgent& agent : cluster.agents) agent.holds_moves = true;
  cluster.Rearrange("r1");
  REQUIRE(cluster.RunUntil([&] { return !cluster.orders.empty(); }));
  StepsTake(cluster, 40 * kMs);
  REQUIRE(cluster.RunUntil([&] { return cluster.Status().guard_pace == "paused"; }));
  CHECK(cluster.Status().held.find("no wave begins") != std::string::npos);
  CHECK(cluster.Status().guarded_p99 > 39 * kMs);
  // The wave at hand ends; no other begins, since step times may be its work.
  for (int r = 0; r < options.shape.num_ranks; ++r) {
    cluster.agents[static_cast<size_t>(r)].holds_moves = false;
    cluster.Resume(r);
  }
  cluster.Run(absl::Seconds(1));
  const uint64_t waves = cluster.Status().totals.waves;
  cluster.Run(absl::Seconds(10));
  CHECK(cluster.Status().totals.waves == waves);
  CHECK(cluster.StateOf("r1") == "running");
  StepsTake(cluster, 20 * kMs);
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  CHECK(cluster.Status().held.empty());
}

TEST_CASE("engines that are slow by themselves are rearranged all the same, slowly", "[guard]") {
  Cluster::Options options = Guarded();
  options.settings.defaults.guard.step_time_p99_max = 25 * kMs;
  Cluster cluster(options);
  StepsTake(cluster, 40 * kMs);
  StartUnderLoad(cluster);
  CHECK(cluster.Status().guard_pace == "slow");
  cluster.Rearrange("r1");
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }, absl::Minutes(2)));
  CHECK(cluster.Status().totals.moves > 0);
}

TEST_CASE("a placement after which steps take longer is rolled back, and the controller rests", "[guard]") {
  Cluster::Options options = Plans(Guarded());
  options.settings.defaults.guard.slowdown_max = 0.1;
  options.settings.defaults.shares_enabled = false;
  Cluster cluster(options);
  StepsTake(cluster, 20 * kMs);
  StartUnderLoad(cluster);
  const auto before = ByRank(cluster, 0);
  REQUIRE(cluster.RunUntil([&] { return cluster.Status().totals.moves > 0; }));
  const std::string slow = FirstOf(cluster.coordinator->ListOperations(), Cause::kSlowLoop)->id;
  StepsTake(cluster, 30 * kMs);
  REQUIRE(cluster.RunUntil([&] { return FirstOf(cluster.coordinator->ListOperations(), Cause::kGuard) != nullptr; }));
  CHECK(cluster.Status().totals.guard_undone == 1);
  CHECK(cluster.Status().held.find(absl::StrCat("since operation ", slow)) != std::string::npos);
  CHECK(cluster.Status().held.find("in the median instead of 20") != std::string::npos);
  const std::string undo = FirstOf(cluster.coordinator->ListOperations(), Cause::kGuard)->id;
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf(undo) == "done"; }));
  CHECK(ByRank(cluster, 0) == before);
  REQUIRE(Steady(cluster));
  // It rests, though the load asks for moves; operators are served.
  const uint64_t moves = cluster.Status().totals.moves;
  cluster.Run(absl::Minutes(2));
  CHECK(cluster.Status().totals.moves == moves);
  CHECK(cluster.Status().ineffective.empty());
  cluster.Rearrange("r1");
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  CHECK(cluster.Status().totals.moves > moves);
}

TEST_CASE("a placement that cannot be rolled back now is told as such", "[guard]") {
  Cluster::Options options = Plans(Guarded());
  options.settings.defaults.guard.slowdown_max = 0.1;
  options.settings.defaults.shares_enabled = false;
  Cluster cluster(options);
  StepsTake(cluster, 20 * kMs);
  StartUnderLoad(cluster);
  REQUIRE(cluster.RunUntil([&] { return cluster.Status().totals.moves > 0; }));
  REQUIRE(cluster.RunUntil([&] { return cluster.Status().running_operation.empty(); }));
  StepsTake(cluster, 30 * kMs);
  cluster.hold_plans = true;
  cluster.Rearrange("r1");
  REQUIRE(cluster.RunUntil([&] { return !cluster.Status().held.empty(); }));
  CHECK(cluster.Status().held.find("not undone: rearrangement r1 is running") != std::string::npos);
  CHECK(cluster.Status().totals.guard_undone == 0);
}

TEST_CASE("a placement after which steps take no longer stays", "[guard]") {
  Cluster::Options options = Plans(Guarded());
  options.settings.defaults.guard.slowdown_max = 0.1;
  Cluster cluster(options);
  StepsTake(cluster, 20 * kMs);
  StartUnderLoad(cluster);
  REQUIRE(cluster.RunUntil([&] { return cluster.Status().totals.moves > 0; }));
  StepsTake(cluster, 15 * kMs);
  cluster.Run(absl::Seconds(30));
  CHECK(cluster.Status().totals.guard_undone == 0);
  CHECK(FirstOf(cluster.coordinator->ListOperations(), Cause::kGuard) == nullptr);
}

TEST_CASE("shares after which steps take longer are taken back", "[guard]") {
  Cluster::Options options = Guarded();
  options.settings.defaults.guard.slowdown_max = 0.1;
  Cluster cluster(options);
  StepsTake(cluster, 20 * kMs);
  Start(cluster);
  cluster.Run(absl::Seconds(4));
  const algos::LayerMap before = cluster.coordinator->GetMaps(kGroup)->layers[0].map;
  cluster.load = Skewed(cluster);
  // The trial compares steps of as many tokens: there were none before.
  REQUIRE(cluster.RunUntil([&] { return cluster.Status().totals.shares_updates > 0; }));
  cluster.Run(absl::Seconds(10));
  const algos::LayerMap shared = cluster.coordinator->GetMaps(kGroup)->layers[0].map;
  CHECK(shared.bounds != before.bounds);
  for (auto& layer : cluster.load) std::swap(layer[0], layer[4]);
  const uint64_t updates = cluster.Status().totals.shares_updates;
  REQUIRE(cluster.RunUntil([&] { return cluster.Status().totals.shares_updates > updates; }));
  StepsTake(cluster, 30 * kMs);
  REQUIRE(cluster.RunUntil([&] { return cluster.Status().totals.guard_undone > 0; }));
  CHECK(cluster.coordinator->GetMaps(kGroup)->layers[0].map.bounds == shared.bounds);
  CHECK(cluster.Status().held.find("shares of 2 layers are as before again") != std::string::npos);
  // No shares of its own while it rests.
  const Epoch epoch = cluster.Status().epoch;
  cluster.Run(absl::Minutes(1));
  CHECK(cluster.Status().epoch == epoch);
}

TEST_CASE("steps of ranks that are fewer now are not compared with those before", "[guard]") {
  Cluster::Options options = Plans(Guarded());
  options.settings.defaults.guard.slowdown_max = 0.1;
  options.settings.defaults.placement_interval = absl::Seconds(600);
  Cluster cluster(options);
  StepsTake(cluster, 20 * kMs);
  StartUnderLoad(cluster);
  cluster.Rearrange("r1");
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  cluster.Deliver(
      DrainRequested{.operation_id = "d1", .group = kGroup, .ranks = {RankId(3)}, .grace = absl::ZeroDuration()});
  REQUIRE(cluster.RunUntil([&] { return cluster.Status().totals.moves > 0; }));
  StepsTake(cluster, 30 * kMs);
  cluster.Run(absl::Seconds(30));
  CHECK(cluster.Status().totals.guard_undone == 0);
}

TEST_CASE("a frozen group is left alone by the controller itself, and by nobody else", "[guard]") {
  Cluster::Options options = Plans(Basic());
  const absl::Time start = absl::FromUnixSeconds(1000000);
  const absl::Duration of_day = (start - absl::UnixEpoch()) % absl::Hours(24);
  options.settings.defaults.freezes = {{0x7f, of_day, absl::Minutes(2)}};
  Cluster cluster(options);
  REQUIRE(cluster.now == start);
  StartUnderLoad(cluster);
  const Epoch epoch = cluster.Status().epoch;
  cluster.Run(absl::Seconds(30));
  CHECK(cluster.Status().epoch == epoch);
  CHECK(cluster.Status().held.find("frozen until ") == 0);
  const auto operations = cluster.coordinator->ListOperations();
  REQUIRE(operations.size() == 1);
  CHECK(operations[0].state == OperationState::kSkipped);
  CHECK(operations[0].detail.find("frozen until ") == 0);
  cluster.Rearrange("r1");
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  for (auto& layer : cluster.load) std::swap(layer[0], layer[4]);
  cluster.Run(absl::Seconds(20));
  CHECK(cluster.Status().totals.shares_updates == 0);
  cluster.Run(absl::Minutes(2));
  CHECK(cluster.Status().held.empty());
  CHECK(cluster.Status().totals.shares_updates > 0);
}

}  // namespace evenkeel::controller
