// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>

#include "catch2/catch.hpp"

#include "algos/base/rng.h"
#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

TEST_CASE("rearrangements to arbitrary placements arrive, whatever fails on the way", "[coordinator]") {
  const uint64_t seed = GENERATE(range(1, 26));
  CAPTURE(seed);
  Rng rng(static_cast<uint64_t>(seed));
  Cluster::Options options = Basic();
  options.shape = {.num_experts = static_cast<int>(rng.Between(4, 10)), .num_ranks = 4, .slots_per_rank = 3};
  options.settings.defaults.wave_deadline = absl::Seconds(5);
  options.settings.defaults.move_deadline = absl::Seconds(2);
  options.settings.defaults.mismatches_until_condemned = 100;
  Cluster cluster(options);
  StartUnderLoad(cluster);
  cluster.hold_plans = true;
  for (int round = 0; round < 3; ++round) {
    const std::string id = "r" + std::to_string(round);
    cluster.Rearrange(id);
    REQUIRE(cluster.plans.size() == 1);
    std::vector<algos::Placement> target(2);
    for (algos::Placement& placement : target) {
      for (int s = 0; s < options.shape.num_slots(); ++s) placement.expert_of_slot.push_back(ExpertId(s));
      for (int s = options.shape.num_experts; s < options.shape.num_slots(); ++s) {
        placement.expert_of_slot[static_cast<size_t>(s)] =
            ExpertId(static_cast<int>(rng.Below(static_cast<uint64_t>(options.shape.num_experts))));
      }
      rng.Shuffle(placement.expert_of_slot);
    }
    for (FakeAgent& agent : cluster.agents) {
      agent.num_moves_to_fail = static_cast<int>(rng.Below(3));
      agent.num_moves_to_corrupt = static_cast<int>(rng.Below(2));
    }
    cluster.Deliver(PlanComputed{cluster.plans.front().plan_id, algos::WithEvenShares(target)});
    cluster.plans.clear();
    for (int step = 0; step < 6; ++step) {
      const int rank = static_cast<int>(rng.Below(4));
      FakeAgent& agent = cluster.agents[static_cast<size_t>(rank)];
      switch (rng.Below(4)) {
        case 0:
          cluster.DetachAgent(rank);
          cluster.Run(absl::Milliseconds(rng.Between(1, 3000)));
          cluster.AttachAgent(rank);
          break;
        case 1:
          agent.stalled = true;
          cluster.Run(absl::Milliseconds(rng.Between(1, 8000)));
          cluster.Resume(rank);
          break;
        case 2:
          agent.holds_moves = true;
          cluster.Run(absl::Milliseconds(rng.Between(1, 8000)));
          cluster.Resume(rank);
          break;
        default:
          cluster.Run(absl::Milliseconds(rng.Between(1, 500)));
      }
    }
    REQUIRE(cluster.RunUntil([&] { return cluster.StateOf(id) == "done"; }, absl::Minutes(5)));
    for (int l = 0; l < 2; ++l) {
      const auto reached = ByRank(cluster, l);
      for (size_t r = 0; r < 4; ++r) {
        std::multiset<int> wanted;
        for (size_t s = 0; s < 3; ++s) wanted.insert(target[static_cast<size_t>(l)].expert_of_slot[r * 3 + s].value());
        CHECK(reached[r] == wanted);
      }
    }
  }
}

TEST_CASE("whatever dies in whatever order, no rule is broken and the group goes on", "[coordinator]") {
  const int seed = GENERATE(range(1, 41));
  CAPTURE(seed);
  Rng rng(static_cast<uint64_t>(seed) * 7919);
  Cluster::Options options = Basic();
  options.settings = PlannedBy(seed % 2 == 0 ? "flex" : "greedy");
  options.shape.num_experts = static_cast<int>(rng.Between(5, 11));
  options.settings.defaults.placement_enabled = rng.Chance(0.5);
  options.settings.defaults.placement_interval = absl::Seconds(2);
  options.settings.defaults.placement_min_gain = 0;
  options.settings.defaults.wave_deadline = absl::Seconds(3);
  options.settings.defaults.move_deadline = absl::Seconds(1);
  options.settings.defaults.mismatches_until_condemned = 100;
  Cluster cluster(options);
  cluster.load = Skewed(cluster);
  cluster.AttachAll();
  for (int step = 0; step < 60; ++step) {
    const int rank = static_cast<int>(rng.Below(4));
    FakeAgent& agent = cluster.agents[static_cast<size_t>(rank)];
    switch (rng.Below(10)) {
      case 0:
        cluster.DetachAgent(rank);
        break;
      case 1:
        // A successor: what was being written is free.
        cluster.DetachAgent(rank);
        for (SlotRecord& record : agent.slots) {
          if (record.state == SlotState::kWriting) record = {SlotState::kFree, ExpertId(), record.generation, 0};
        }
        agent.moves.clear();
        cluster.AttachAgent(rank);
        break;
      case 2:
        if (!agent.session.has_value()) cluster.AttachAgent(rank);
        break;
      case 3:
        agent.stalled = true;
        break;
      case 4:
        agent.holds_moves = true;
        break;
      case 5:
        cluster.Resume(rank);
        break;
      case 6: {
        if (!rng.Chance(0.3)) break;
        auto operations = cluster.coordinator->ListOperations();
        std::reverse(operations.begin(), operations.end());
        cluster.RestartController(operations);
        cluster.AttachAll();
        break;
      }
      case 7:
        agent.num_moves_to_fail = 2;
        break;
      default:
        cluster.load[rng.Below(2)][rng.Below(static_cast<uint64_t>(options.shape.num_experts))] = rng.Below(60000);
        cluster.Rearrange("r" + std::to_string(step), rng.Chance(0.5) ? "greedy" : "deepseek");
    }
    cluster.Run(absl::Milliseconds(rng.Between(1, 1500)));
  }
  for (int r = 0; r < 4; ++r) {
    FakeAgent& agent = cluster.agents[static_cast<size_t>(r)];
    agent.num_moves_to_fail = agent.num_moves_to_corrupt = 0;
    if (!agent.session.has_value()) cluster.AttachAgent(r);
    cluster.Resume(r);
  }
  const auto idle = [&] {
    return !cluster.Status().forming && cluster.Status().running_operation.empty() && Steady(cluster);
  };
  REQUIRE(cluster.RunUntil(idle, absl::Minutes(5)));
  cluster.Rearrange("last");
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("last") == "done"; }, absl::Minutes(5)));
  CHECK_FALSE(cluster.stepped_down.has_value());
}

TEST_CASE("the same events give the same effects", "[coordinator]") {
  const auto run = [] {
    Cluster cluster(Basic());
    StartUnderLoad(cluster);
    cluster.Rearrange("r1");
    cluster.agents[1].num_moves_to_fail = 1;
    cluster.Run(absl::Seconds(10));
    return cluster.trace;
  };
  CHECK(run() == run());
}

}  // namespace
}  // namespace evenkeel::controller
