// SPDX-License-Identifier: Apache-2.0
//
// What the controller measures itself by: the engines' step times (rule 28), and how far ranks are loaded otherwise than
// the maps say (rule 31).
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "catch2/catch.hpp"

#include "controller/core/planning/gap_watch.h"
#include "controller/core/rollout/step_times.h"
#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

TEST_CASE("the 99th percentile of step times forgets old ones and leaves out what was not measured", "[measured]") {
  StepTimes times;
  CHECK(times.P99() == absl::ZeroDuration());
  times.Add(absl::ZeroDuration());
  CHECK(times.P99() == absl::ZeroDuration());
  for (int i = 1; i <= 100; ++i) times.Add(absl::Milliseconds(i));
  CHECK(times.P99() == absl::Milliseconds(99));
  times.Add(absl::Seconds(9));  // one of 101
  CHECK(times.P99() == absl::Milliseconds(100));
  for (size_t i = 0; i < StepTimes::kKept; ++i) times.Add(absl::Milliseconds(5));
  CHECK(times.P99() == absl::Milliseconds(5));
}

TEST_CASE("waves have twenty times the measured step time, and at least what is configured", "[measured]") {
  Cluster::Options options = Basic();
  options.settings.defaults.wave_deadline = absl::Seconds(4);
  Cluster cluster(options);
  const absl::Duration step = GENERATE(absl::Milliseconds(50), absl::Milliseconds(500));
  for (FakeAgent& agent : cluster.agents) agent.mean_step_time = step;
  StartUnderLoad(cluster);
  CHECK(cluster.Status().step_time_p99 == step);
  CHECK(cluster.Status().wave_deadline == std::max(absl::Seconds(4), 20 * step));
  cluster.agents[2].stalled = true;
  cluster.Rearrange("r1");
  cluster.Run(absl::Milliseconds(4050));
  if (step == absl::Milliseconds(500)) {
    CHECK(cluster.Status().totals.waves_undone == 0);
    cluster.Run(absl::Seconds(6));
  }
  CHECK(cluster.Status().totals.waves_undone >= 1);
  cluster.Resume(2);
  CHECK(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }, absl::Minutes(3)));
}

bool Noted(const Cluster& cluster, const std::string& text) {
  return std::ranges::any_of(cluster.notes, [&](const std::string& note) { return absl::StrContains(note, text); });
}

TEST_CASE("ranks loaded otherwise than the maps say, for long, are an alert until it ends", "[measured]") {
  Cluster cluster(Basic());
  cluster.load = Skewed(cluster);
  Start(cluster);
  cluster.Run(absl::Seconds(30));
  CHECK(cluster.Status().imbalance_gap.empty());
  CHECK_FALSE(Noted(cluster, "realised imbalance"));

  cluster.ignores_shares = true;
  cluster.Run(absl::Seconds(8));
  CHECK(cluster.Status().imbalance_gap.empty());  // not lasting yet
  cluster.Run(absl::Seconds(5));
  CHECK(absl::StrContains(cluster.Status().imbalance_gap, "worst is layer"));
  CHECK(absl::StrContains(cluster.Status().alerts.back().text, "realised imbalance is"));
  CHECK(Noted(cluster, "realised imbalance is"));
  const size_t num_alerts = cluster.Status().alerts.size();
  cluster.Run(absl::Seconds(10));
  CHECK(cluster.Status().alerts.size() == num_alerts);  // told once
  CHECK_FALSE(cluster.Status().alerts.back().ended.has_value());

  cluster.ignores_shares = false;
  cluster.Run(absl::Seconds(3));
  CHECK(cluster.Status().imbalance_gap.empty());
  CHECK(Noted(cluster, "ranks are loaded as the maps in force say again"));
  const Alert over = cluster.Status().alerts.back();
  REQUIRE(over.ended.has_value());
  CHECK(over.began < *over.ended);
  CHECK(Noted(cluster, "is over: realised imbalance is"));
}

TEST_CASE("load that shifts from window to window is no gap", "[measured]") {
  Cluster cluster(Basic());
  cluster.load = Skewed(cluster);
  Start(cluster);
  for (int second = 0; second < 30; ++second) {
    for (auto& layer : cluster.load) std::rotate(layer.begin(), layer.begin() + 3, layer.end());
    cluster.Run(absl::Seconds(1));
  }
  CHECK(cluster.Status().imbalance_gap.empty());
  CHECK_FALSE(Noted(cluster, "realised imbalance"));
}

TEST_CASE("windows with too little load to tell neither begin a gap nor end it", "[measured]") {
  GapWatch watch;
  const std::vector<GapWatch::Sample> bad = {{LayerId(0), 1.5, 1.1}, {LayerId(1), 1.2, 1.2}};
  for (int i = 1; i < GapWatch::kWindowsLasting; ++i) CHECK(watch.Take(bad) == GapWatch::Change::kNone);
  CHECK(watch.Take({}) == GapWatch::Change::kNone);
  CHECK(watch.Take(bad) == GapWatch::Change::kBegan);
  CHECK(watch.Take({}) == GapWatch::Change::kNone);
  CHECK(absl::StrContains(watch.text(), "worst is layer 0 with 1.500 against 1.100"));
  CHECK(watch.Take(bad) == GapWatch::Change::kNone);
  CHECK(watch.Take({{LayerId(0), 1.2, 1.1}}) == GapWatch::Change::kEnded);
  CHECK(watch.text().empty());
}

}  // namespace
}  // namespace evenkeel::controller
