// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/load_keeping.h"

#include <algorithm>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

Cluster::Options Plans(const char* policy) {
  Cluster::Options options = Basic();
  options.settings.defaults.policy = policy;
  options.settings.defaults.num_windows_for_placement = 30;
  return options;
}

uint64_t CountOf(const LoadHistory& load) {
  uint64_t count = 0;
  for (const KeptWindow& window : load.windows) count += window.span.num_tokens;
  return count;
}

// The moves of a dry run that is decided before a token was counted since the controller's start.
int MovesPlannedAtOnce(Cluster& cluster, const std::string& id) {
  cluster.load.clear();
  cluster.AttachAll();
  REQUIRE(cluster.RunUntil([&] { return !cluster.Status().forming; }));
  cluster.Rearrange(id, "", {}, true);
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf(id) == "done" || cluster.StateOf(id) == "skipped"; }));
  return cluster.Operation(id).num_moves;
}

TEST_CASE("what was counted goes to the store every few windows, each window once", "[load_keeping]") {
  Cluster cluster(Plans("greedy"));
  StartUnderLoad(cluster);
  cluster.Run(absl::Seconds(45));
  REQUIRE(cluster.stored_loads.size() >= 4);
  absl::Time last = absl::InfinitePast();
  for (const LoadHistory& load : cluster.stored_loads) {
    CHECK(load.group == Cluster::kGroup);
    CHECK(load.model == "m");
    CHECK(load.num_layers == cluster.options.num_layers);
    CHECK(load.num_experts == cluster.options.shape.num_experts);
    CHECK(load.kept_for == absl::Seconds(30));
    CHECK(load.windows.size() <= static_cast<size_t>(kWindowsAtOnce));
    CHECK(CountOf(load) > 0);
    for (const KeptWindow& window : load.windows) {
      CHECK(window.span.from >= last);
      last = window.span.to;
    }
  }
}

TEST_CASE("a successor plans by what its predecessor has counted", "[load_keeping]") {
  const char* policy = GENERATE("greedy", "flex");
  CAPTURE(policy);
  Cluster cluster(Plans(policy));
  StartUnderLoad(cluster);
  cluster.Run(absl::Seconds(45));
  const bool found = GENERATE(true, false);
  if (!found) cluster.stored_loads.clear();
  cluster.RestartController({});
  CHECK((MovesPlannedAtOnce(cluster, "r1") > 0) == found);
}

TEST_CASE("loads of another group, model or shape, too old or of the future, are left alone", "[load_keeping]") {
  Cluster cluster(Plans("greedy"));
  StartUnderLoad(cluster);
  cluster.Run(absl::Seconds(45));
  const auto change = GENERATE(0, 1, 2, 3, 4, 5);
  CAPTURE(change);
  for (LoadHistory& load : cluster.stored_loads) {
    if (change == 0) load.group = "other";
    if (change == 1) load.model = "other";
    if (change == 2) load.num_experts *= 2;
    if (change == 3) ++load.num_layers;
    for (KeptWindow& window : load.windows) {
      if (change == 4) window.span.to -= absl::Hours(1);
      if (change == 5) window.span.to += absl::Hours(1);
    }
  }
  cluster.RestartController({});
  CHECK(MovesPlannedAtOnce(cluster, "r1") == 0);
}

}  // namespace
}  // namespace evenkeel::controller
