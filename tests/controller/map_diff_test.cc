// SPDX-License-Identifier: Apache-2.0
//
// What a named map would move, and the way back to what was.
#include "controller/core/planning/map_diff.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "catch2/catch.hpp"

#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

using Holdings = std::vector<std::multiset<int>>;

std::vector<algos::Placement> Now(const Cluster& cluster) {
  std::vector<algos::Placement> placements;
  const GroupMaps maps = *cluster.coordinator->GetMaps(kGroup);
  for (const LayerMapStatus& layer : maps.layers) placements.push_back(layer.placement);
  return placements;
}

void GoTo(Cluster& cluster, const std::string& id, const NamedPlacements& wanted) {
  RearrangeRequested request{id, kGroup, "static", wanted.layers};
  request.placements = wanted.placements;
  cluster.Deliver(request);
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf(id) == "done"; }));
}

void Rearranged(Cluster& cluster, const std::string& id, const std::string& policy) {
  cluster.Rearrange(id, policy);
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf(id) == "done"; }));
  REQUIRE(cluster.Operation(id).num_moves_done > 0);
}

TEST_CASE("a difference foretells what the rollout then moves", "[map_diff]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  // Two experts of layer 1 change places between two ranks.
  algos::Placement wanted = Now(cluster)[1];
  std::swap(wanted.expert_of_slot[1], wanted.expert_of_slot[10]);
  const auto named = NamePlacements(cluster.Status().info, {LayerId(1)}, {wanted});
  REQUIRE(named.ok());
  const auto diff = cluster.coordinator->Diff(kGroup, *named);
  REQUIRE(diff.ok());
  CHECK(diff->num_moves == 2);
  CHECK(diff->bytes == 2 * 1000);
  REQUIRE(diff->layers.size() == 1);
  CHECK(diff->layers[0].received ==
        std::vector<SlotReceives>{{RankId(0), wanted.expert_of_slot[1]}, {RankId(3), wanted.expert_of_slot[10]}});
  CHECK(diff->imbalance_before > 1);
  CHECK(diff->imbalance_after > 1);
  CHECK(cluster.orders.empty());
  GoTo(cluster, "s1", *named);
  CHECK(cluster.Operation("s1").num_moves_done >= 2);
  CHECK(cluster.coordinator->Diff(kGroup, *named)->num_moves == 0);
  CHECK(cluster.Operation("s1").imbalance_before == Approx(diff->imbalance_before).epsilon(0.1));
}

TEST_CASE("layers and placements that do not fit are refused by name", "[map_diff]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  const GroupInfo info = cluster.Status().info;
  const algos::Placement fits = Now(cluster)[0];
  CHECK(NamePlacements(info, {}, {}).status().message() == "layers: none is named");
  CHECK(NamePlacements(info, {LayerId(2)}, {fits}).status().message() == "layer 2 of group g: its layers are 0 to 1");
  CHECK(NamePlacements(info, {LayerId(1), LayerId(1)}, {fits, fits}).status().message() == "layer 1 is named twice");
  algos::Placement lacks = fits;
  for (ExpertId& expert : lacks.expert_of_slot) expert = ExpertId(0);
  CHECK(NamePlacements(info, {LayerId(0)}, {lacks}).status().message().find("layer 0: ") == 0);
}

TEST_CASE("operations are undone, the newest alone or back to a named one or an epoch", "[map_diff]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  const std::vector<Holdings> first = {ByRank(cluster, 0), ByRank(cluster, 1)};
  const Epoch epoch = cluster.Status().epoch;
  Rearranged(cluster, "r1", "greedy");
  const std::vector<Holdings> second = {ByRank(cluster, 0), ByRank(cluster, 1)};
  Rearranged(cluster, "r2", "random");
  REQUIRE(cluster.Status().rollback_points.size() == 2);

  const auto before_last = cluster.coordinator->PlacementsOf(kGroup, {});
  REQUIRE(before_last.ok());
  GoTo(cluster, "back1", *before_last);
  CHECK(std::vector<Holdings>{ByRank(cluster, 0), ByRank(cluster, 1)} == second);

  const bool by_epoch = GENERATE(false, true);
  const RollbackTarget target = by_epoch ? RollbackTarget{.epoch = epoch} : RollbackTarget{.operation_id = "r1"};
  const auto before_first = cluster.coordinator->PlacementsOf(kGroup, target);
  REQUIRE(before_first.ok());
  GoTo(cluster, "back2", *before_first);
  CHECK(std::vector<Holdings>{ByRank(cluster, 0), ByRank(cluster, 1)} == first);
  CHECK(cluster.coordinator->PlacementsOf(kGroup, target).status().message() == "every layer holds what it held then");
}

TEST_CASE("what history does not hold is named", "[map_diff]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  CHECK(cluster.coordinator->PlacementsOf(kGroup, {}).status().message() ==
        "no operation has moved anything under this controller");
  Rearranged(cluster, "r1", "greedy");
  CHECK(cluster.coordinator->PlacementsOf(kGroup, {.operation_id = "r0"}).status().code() ==
        absl::StatusCode::kNotFound);
  const Epoch later{cluster.Status().epoch.term, cluster.Status().epoch.number + 1};
  CHECK(cluster.coordinator->PlacementsOf(kGroup, {.epoch = later}).status().message() ==
        "nothing was moved since epoch " + later.ToString());
}

}  // namespace
}  // namespace evenkeel::controller
