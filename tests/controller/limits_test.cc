// SPDX-License-Identifier: Apache-2.0
//
// What bounds a controller that runs for long: groups are forgotten, their memory is limited, numbers do not wrap.
#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "catch2/catch.hpp"

#include "controller/core/group_bytes.h"
#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

Cluster::Options KeptFor(absl::Duration kept) {
  Cluster::Options options = Basic();
  options.settings.group_kept = kept;
  return options;
}

size_t NumGroups(const Cluster& cluster) { return cluster.coordinator->ListGroups().size(); }

void DetachAll(Cluster& cluster) {
  for (int rank = 0; rank < 4; ++rank) cluster.DetachAgent(rank);
}

TEST_CASE("a group that no agent is attached to is forgotten after its time, and may come again", "[limits]") {
  Cluster cluster(KeptFor(absl::Minutes(10)));
  Start(cluster);
  cluster.Run(absl::Minutes(20));
  for (int rank = 1; rank < 4; ++rank) cluster.DetachAgent(rank);
  cluster.Run(absl::Minutes(20));
  CHECK(NumGroups(cluster) == 1);  // one agent is enough
  cluster.DetachAgent(0);
  cluster.Run(absl::Minutes(9));
  CHECK(NumGroups(cluster) == 1);
  cluster.Run(absl::Minutes(3));
  CHECK(NumGroups(cluster) == 0);
  CHECK(absl::StrContains(cluster.notes.back(), "forgotten"));
  CHECK(cluster.coordinator->NextWakeup() == absl::InfiniteFuture());
  cluster.AttachAll();
  cluster.Run(absl::Seconds(2));
  CHECK_FALSE(cluster.Status().forming);
}

TEST_CASE("a group that the configuration names is never forgotten", "[limits]") {
  Cluster::Options options = KeptFor(absl::Minutes(10));
  options.settings.groups = {{Cluster::kGroup, options.settings.defaults}};
  Cluster cluster(options);
  Start(cluster);
  DetachAll(cluster);
  cluster.Run(absl::Hours(1));
  CHECK(NumGroups(cluster) == 1);
}

TEST_CASE("a group with an operation under way is not forgotten before that has ended", "[limits]") {
  Cluster::Options options = KeptFor(absl::Minutes(10));
  options.settings.defaults.wave_deadline = absl::Seconds(4);
  Cluster cluster(options);
  StartUnderLoad(cluster);
  cluster.agents[2].stalled = true;
  cluster.Rearrange("r1");
  cluster.Run(absl::Seconds(1));
  REQUIRE(cluster.StateOf("r1") == "running");
  DetachAll(cluster);
  cluster.Run(absl::Hours(1));
  CHECK(NumGroups(cluster) == 1);
  cluster.Deliver(CancelRequested{"r1"});
  cluster.Run(absl::Minutes(12));
  CHECK(cluster.StateOf("r1") == "cancelled");
  CHECK(NumGroups(cluster) == 0);
}

TEST_CASE("a group whose tables would take too much beside the others is refused with the numbers", "[limits]") {
  Cluster::Options options = Basic();
  const uint64_t one = GroupBytes(Cluster(options).AttachOf(0).group, options.settings.defaults);
  options.settings.group_bytes_max = one + one / 2;
  Cluster cluster(options);
  Start(cluster);
  Attach other = cluster.AttachOf(0);
  other.group.name = std::string("h");
  other.term_obeyed = 0;
  const Effects effects = cluster.coordinator->Step(cluster.now, AgentMessageReceived{99, other});
  const auto* refused = std::get_if<Refused>(&*std::get<SendToAgent>(effects.at(0)).message);
  REQUIRE(refused != nullptr);
  CHECK(absl::IsResourceExhausted(refused->status));
  CHECK(absl::StrContains(refused->status.message(), "group h would take"));
  CHECK(absl::StrContains(refused->status.message(), "(group_bytes_max)"));
  CHECK(NumGroups(cluster) == 1);
  // Its own agents come and go.
  cluster.DetachAgent(2);
  cluster.AttachAgent(2);
  CHECK(cluster.agents[2].welcomed);
}

TEST_CASE("the estimate of a group's memory holds what its windows alone take", "[limits]") {
  GroupInfo info;
  info.shape = {.num_experts = 256, .num_ranks = 8, .slots_per_rank = 36};
  info.num_layers = 58;
  const GroupSettings settings;
  CHECK(GroupBytes(info, settings) > uint64_t{600} * 58 * (256 + 288) * 8);
  CHECK(GroupBytes(info, settings) < uint64_t{700} * 58 * (3 * 256 + 288) * 8);
}

TEST_CASE("bytes of many large experts do not wrap around to none", "[limits]") {
  GroupInfo info;
  info.expert_bytes = uint64_t{1} << 50;
  CHECK(ExpertBytes(16383, info) == uint64_t{16383} << 50);
  CHECK(ExpertBytes(16384, info) == UINT64_MAX);
  CHECK(ExpertBytes(65536, info) == UINT64_MAX);
}

TEST_CASE("ids of moves go on where all engines of a group are started anew", "[limits]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.Rearrange("r1");
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  const size_t num_before = cluster.orders.size();
  REQUIRE(num_before > 0);
  DetachAll(cluster);
  for (int rank = 0; rank < 4; ++rank) cluster.RestartEngine(rank);
  cluster.AttachAll();
  cluster.Run(absl::Seconds(8));
  cluster.Rearrange("r2");
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r2") == "done"; }));
  CHECK(cluster.orders.size() > num_before);
  std::set<uint64_t> ids;
  for (const MoveOrder& order : cluster.orders) CHECK(ids.insert(order.move_id).second);
}

TEST_CASE("a rearrangement that overtakes another plans on the slots that return with it", "[limits]") {
  Cluster::Options options = Basic();
  options.settings.defaults.placement_enabled = true;
  options.settings.defaults.placement_interval = absl::Seconds(3);
  Cluster cluster(options);
  cluster.agents[2].stalled = true;
  cluster.load = Skewed(cluster);
  Start(cluster);
  const auto retired = [&] {
    int count = 0;
    for (const LayerStatus& layer : cluster.Status().layers) count += layer.num_slots_retired;
    return count;
  };
  REQUIRE(cluster.RunUntil([&] { return retired() > 0; }));
  REQUIRE(cluster.orders.empty());
  cluster.hold_plans = true;
  cluster.Rearrange("r1");
  REQUIRE(cluster.plans.size() == 1);
  for (const algos::Placement& current : cluster.plans.back().problem->current) {
    CHECK(std::ranges::count(current.expert_of_slot, kNoExpert) == 0);
  }
}

}  // namespace
}  // namespace evenkeel::controller
