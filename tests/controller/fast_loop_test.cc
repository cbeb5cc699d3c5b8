// SPDX-License-Identifier: Apache-2.0
//
// When the fast loop answers load: with the report that completes a window, and not more often than it may.
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "catch2/catch.hpp"

#include "algos/placement.h"
#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

constexpr absl::Duration kWindow = absl::Milliseconds(100);

// Of 4 ranks; windows wait 100 ms for a silent one.
Cluster Quiet(absl::Duration shares_interval) {
  Cluster::Options options = Basic();
  options.settings.defaults.window = kWindow;
  options.settings.defaults.num_windows_for_shares = 1;
  options.settings.defaults.shares_interval = shares_interval;
  options.settings.defaults.shares_min_gain = 0;
  options.settings.defaults.agent.report_interval = absl::Milliseconds(40);
  return Cluster(options);
}

void Form(Cluster& cluster) {
  cluster.AttachAll();
  cluster.RunUntil([&] { return !cluster.Status().forming; });
  REQUIRE_FALSE(cluster.Status().forming);
  // 1 ms into a window, all before it reported and looked at.
  cluster.Run(absl::Seconds(1));
  cluster.now = absl::UnixEpoch() + absl::Ceil(cluster.now - absl::UnixEpoch(), kWindow) + absl::Milliseconds(1);
  for (int rank = 0; rank < 4; ++rank) cluster.Send(rank, LoadReport{.time = cluster.now, .entries = {}});
}

// All that a rank's slots counted: experts 0 and 5 are busy by turns.
LoadReport ReportOf(const Cluster& cluster, int rank, int busy) {
  LoadReport report{.time = cluster.now, .first_step = 1, .last_step = 2, .entries = {}};
  const algos::Shape& shape = cluster.options.shape;
  const algos::Placement placement = algos::DefaultPlacement(shape);
  for (int layer = 0; layer < cluster.options.num_layers; ++layer) {
    for (int local = 0; local < shape.slots_per_rank; ++local) {
      const SlotIdx slot = shape.SlotAt(RankId(rank), local);
      const ExpertId expert = placement.expert_of_slot[slot.idx()];
      report.entries.push_back({LayerId(layer), slot, expert, expert.value() == busy ? 5000u : 100u});
    }
  }
  return report;
}

uint64_t NumUpdates(const Cluster& cluster) { return cluster.Status().totals.shares_updates; }

TEST_CASE("shares follow in the very step that takes in the report which completes a window", "[fast_loop]") {
  Cluster cluster = Quiet(kWindow);
  Form(cluster);
  const uint64_t before = NumUpdates(cluster);
  cluster.now += kWindow;  // 1 ms after the next edge
  for (int rank = 0; rank < 3; ++rank) cluster.Send(rank, ReportOf(cluster, rank, 0));
  CHECK(NumUpdates(cluster) == before);
  cluster.now += absl::Milliseconds(5);
  cluster.Send(3, ReportOf(cluster, 3, 0));
  CHECK(NumUpdates(cluster) == before + 1);
  CHECK(cluster.updates.back().epoch == cluster.agents[0].epoch);
}

TEST_CASE("a rank that is silent holds shares up for its lag, one that has left not at all", "[fast_loop]") {
  Cluster cluster = Quiet(absl::Milliseconds(1));
  Form(cluster);
  const uint64_t before = NumUpdates(cluster);
  cluster.now += kWindow;
  for (int rank = 0; rank < 3; ++rank) cluster.Send(rank, ReportOf(cluster, rank, 0));
  cluster.now += absl::Milliseconds(98);  // 99 ms after the edge, of 100
  cluster.Deliver(Tick{});
  CHECK(NumUpdates(cluster) == before);
  CHECK(cluster.coordinator->NextWakeup() == cluster.now + absl::Milliseconds(1));
  cluster.now += absl::Milliseconds(1);
  cluster.Deliver(Tick{});
  CHECK(NumUpdates(cluster) == before + 1);

  for (int rank = 0; rank < 4; ++rank) cluster.Send(rank, ReportOf(cluster, rank, 0));  // also rank 3, late
  cluster.now += absl::Milliseconds(1);
  cluster.Deliver(Tick{});
  const uint64_t between = NumUpdates(cluster);
  cluster.now += kWindow;
  for (int rank = 0; rank < 3; ++rank) cluster.Send(rank, ReportOf(cluster, rank, 5));
  CHECK(NumUpdates(cluster) == between);
  cluster.DetachAgent(3);
  CHECK(NumUpdates(cluster) == between + 1);
}

TEST_CASE("windows that close faster than shares may change are answered as soon as they may", "[fast_loop]") {
  Cluster cluster = Quiet(4 * kWindow);
  Form(cluster);
  cluster.now += 4 * kWindow;
  for (int rank = 0; rank < 4; ++rank) cluster.Send(rank, LoadReport{.time = cluster.now, .entries = {}});
  const absl::Time looked = cluster.now;
  const uint64_t before = NumUpdates(cluster);
  for (int busy : {0, 5, 0}) {
    cluster.now += kWindow;
    for (int rank = 0; rank < 4; ++rank) cluster.Send(rank, ReportOf(cluster, rank, busy));
  }
  CHECK(NumUpdates(cluster) == before);
  // Nobody reports any more; the time for it comes by itself.
  const absl::Time next = cluster.coordinator->NextWakeup();
  CHECK(next == looked + 4 * kWindow * 9 / 10);
  cluster.now = next;
  cluster.Deliver(Tick{});
  CHECK(NumUpdates(cluster) == before + 1);
}

}  // namespace
}  // namespace evenkeel::controller
