// SPDX-License-Identifier: Apache-2.0
//
// What operators have fixed stays where they fixed it.
#include "controller/core/pins.h"

#include <algorithm>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

Cluster::Options Planned() {
  Cluster::Options options = Basic();
  options.settings.defaults.placement_enabled = true;
  options.settings.defaults.placement_interval = absl::Seconds(5);
  options.settings.defaults.num_windows_for_placement = 4;
  return options;
}

bool Holds(const Cluster& cluster, const algos::Pin& pin) {
  return ByRank(cluster, pin.layer.value())[pin.rank.idx()].contains(pin.expert.value());
}

// Neither the default placement nor a plan for an even load has the expert there.
algos::Pin Unmet(const Cluster& cluster) {
  for (int rank = 0; rank < cluster.options.shape.num_ranks; ++rank) {
    const algos::Pin pin{LayerId(1), ExpertId(7), RankId(rank)};
    if (!Holds(cluster, pin)) return pin;
  }
  FAIL("expert 7 is everywhere");
  return {};
}

TEST_CASE("a pinned expert comes to its rank at once, and stays through plans of all kinds", "[pins]") {
  Cluster cluster(Planned());
  StartUnderLoad(cluster);
  const algos::Pin pin = Unmet(cluster);
  cluster.Deliver(PinRequested{"pin1", kGroup, {pin}, {}, "near its cache", "ann"});
  CHECK(cluster.StateOf("pin1") == "running");
  CHECK(cluster.Operation("pin1").requested_by == "ann");
  REQUIRE(cluster.Status().pins.size() == 1);
  CHECK(cluster.Status().pins[0].reason == "near its cache");
  CHECK(cluster.RunUntil([&] { return Holds(cluster, pin); }));
  cluster.Rearrange("r1", "random");
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  CHECK(Holds(cluster, pin));
  cluster.Deliver(UnpinRequested{kGroup, {"pin1"}, "bob"});
  CHECK(cluster.StateOf("pin1") == "done");
  CHECK(cluster.Operation("pin1").ended_by == "bob");
  CHECK(cluster.Status().pins.empty());
}

TEST_CASE("a frozen layer keeps its map, whoever plans", "[pins]") {
  Cluster cluster(Planned());
  Start(cluster);
  cluster.Deliver(PinRequested{"f1", kGroup, {}, {LayerId(1)}});
  const algos::LayerMap before = cluster.coordinator->GetMaps(kGroup)->layers[1].map;
  cluster.load = Skewed(cluster);
  cluster.Run(absl::Seconds(30));
  CHECK(cluster.Status().totals.moves > 0);  // of the other
  cluster.Rearrange("r1", "random");
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  CHECK(cluster.coordinator->GetMaps(kGroup)->layers[1].map == before);
  REQUIRE(cluster.Operation("r1").decisions != nullptr);
  CHECK(cluster.Operation("r1").decisions->at(1).why == DecisionReason::kFrozen);
  CHECK(cluster.Operation("r1").decisions->at(1).reason == "layer 1: frozen by f1");
  cluster.Rearrange("r2", "greedy", {LayerId(1)});
  CHECK(cluster.StateOf("r2") == "failed");
  CHECK(cluster.Operation("r2").detail == "rearrange: layer 1 is frozen by f1");
  cluster.Deliver(CancelRequested{"f1"});
  CHECK(cluster.StateOf("f1") == "cancelled");
  CHECK(cluster.RunUntil([&] { return !(cluster.coordinator->GetMaps(kGroup)->layers[1].map == before); }));
}

TEST_CASE("with every layer frozen nothing is planned, and it says so", "[pins]") {
  Cluster cluster(Planned());
  Start(cluster);
  cluster.Deliver(PinRequested{"f1", kGroup, {}, {LayerId(0), LayerId(1)}});
  cluster.load = Skewed(cluster);
  cluster.Run(absl::Seconds(12));
  CHECK(cluster.orders.empty());
  const OperationProgress last = cluster.coordinator->ListOperations()[0];
  CHECK(last.state == OperationState::kSkipped);
  CHECK(last.detail.find("2 frozen") != std::string::npos);
  cluster.Rearrange("r1");
  CHECK(cluster.Operation("r1").detail == "rearrange: every layer is frozen");
}

TEST_CASE("pins take free slots; with none left a layer is shares-only, and it says so", "[pins]") {
  Cluster cluster(Planned());  // 12 slots, 8 experts
  StartUnderLoad(cluster);
  std::vector<algos::Pin> pins;
  for (int expert = 0; expert < 4; ++expert) {
    pins.push_back({LayerId(1), ExpertId(expert), RankId(expert)});
    pins.push_back({LayerId(1), ExpertId(expert), RankId((expert + 1) % 4)});
  }
  cluster.Deliver(PinRequested{"pin1", kGroup, {pins.begin(), pins.end() - 1}, {}, "near their caches"});
  RedundancyReport report = *cluster.coordinator->CheckRedundancy(kGroup);
  CHECK(report.layers[0].free_redundancy == 4);
  CHECK(report.layers[1].free_redundancy == 1);
  CHECK(report.problems.empty());
  CHECK(cluster.Status().layers[1].free_redundancy == 1);

  cluster.Deliver(PinRequested{"pin2", kGroup, {pins.back()}, {}, "and this one"});
  report = *cluster.coordinator->CheckRedundancy(kGroup);
  CHECK(report.layers[1].free_redundancy == 0);
  REQUIRE(report.problems.size() == 1);
  CHECK(report.problems[0] == "layer 1 has no free slot left beside experts and pins: only its shares can change");
  CHECK(report.ranks_may_be_lost_serving == 1);
  CHECK(report.ranks_may_be_lost_rebalancing == 0);
  CHECK(report.ranks_may_be_lost_at_once == 0);

  // It is so.
  const auto all_hold = [&] {
    return std::ranges::all_of(pins, [&](const algos::Pin& pin) { return Holds(cluster, pin); });
  };
  REQUIRE(cluster.RunUntil(all_hold));
  const algos::Placement before = cluster.coordinator->GetMaps(kGroup)->layers[1].placement;
  cluster.Rearrange("r1", "random");
  cluster.Run(absl::Seconds(30));
  CHECK(cluster.coordinator->GetMaps(kGroup)->layers[1].placement == before);
}

TEST_CASE("pins survive the controller", "[pins]") {
  Cluster cluster(Planned());
  StartUnderLoad(cluster);
  const algos::Pin pin = Unmet(cluster);
  cluster.Deliver(PinRequested{"pin1", kGroup, {pin}, {LayerId(0)}, "for ever"});
  cluster.RestartController({cluster.Operation("pin1")});
  cluster.AttachAll();
  cluster.Run(absl::Seconds(20));
  REQUIRE(cluster.Status().pins.size() == 1);
  CHECK(cluster.Status().pins[0].frozen == std::vector<LayerId>{LayerId(0)});
  CHECK(cluster.RunUntil([&] { return Holds(cluster, pin); }));
  CHECK(cluster.StateOf("pin1") == "running");
}

TEST_CASE("pins that do not fit the group are refused by name", "[pins]") {
  Cluster cluster(Planned());
  Start(cluster);
  const auto refused = [&](const std::string& id, std::vector<algos::Pin> pins, std::vector<LayerId> frozen) {
    cluster.Deliver(PinRequested{id, kGroup, std::move(pins), std::move(frozen)});
    CHECK(cluster.StateOf(id) == "failed");
    return cluster.Operation(id).detail;
  };
  CHECK(refused("a", {{LayerId(2), ExpertId(0), RankId(0)}}, {}) == "pin: layer 2: 0 to 1 wanted");
  CHECK(refused("b", {{LayerId(0), ExpertId(8), RankId(0)}}, {}) == "pin: expert 8: 0 to 7 wanted");
  CHECK(refused("c", {{LayerId(0), ExpertId(0), RankId(4)}}, {}) == "pin: rank 4: 0 to 3 wanted");
  CHECK(refused("d", {}, {LayerId(9)}) == "pin: layer 9: 0 to 1 wanted");
  CHECK(refused("e", {}, {}) == "pin: neither an expert nor a layer is named");
  std::vector<algos::Pin> many;
  for (int expert = 0; expert < 4; ++expert) many.push_back({LayerId(0), ExpertId(expert), RankId(0)});
  CHECK(refused("f", many, {}).find("more pins on rank 0 than its 3 slots") != std::string::npos);
  CHECK(cluster.Status().pins.empty());
}

}  // namespace
}  // namespace evenkeel::controller
