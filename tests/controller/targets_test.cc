// SPDX-License-Identifier: Apache-2.0
#include "controller/core/rollout/targets.h"

#include "catch2/catch.hpp"

namespace evenkeel::controller {
namespace {

constexpr LayerId kLayer{0};

SlotTable TableWith(int num_experts, std::vector<int> condemned) {
  SlotTable table({.num_experts = num_experts, .num_ranks = 2, .slots_per_rank = 2}, 1, 3);
  for (int slot : condemned) table.Confirm(kLayer, SlotIdx(slot), {SlotState::kCondemned, ExpertId(), 1, 0});
  return table;
}

algos::Placement PlacementOf(std::vector<int> experts) {
  algos::Placement placement;
  for (int expert : experts) placement.expert_of_slot.push_back(ExpertId(expert));
  return placement;
}

TEST_CASE("a target without condemned slots stays as it is", "[targets]") {
  const algos::Placement target = PlacementOf({0, 1, 2, 0});
  CHECK(WithoutCondemned(target, kLayer, TableWith(3, {})) == target);
}

TEST_CASE("a rank with a condemned slot gives up a replica that others have too", "[targets]") {
  CHECK(WithoutCondemned(PlacementOf({0, 1, 2, 0}), kLayer, TableWith(3, {1})) == PlacementOf({-1, 1, 2, 0}));
}

TEST_CASE("a sole replica takes the place of a replica elsewhere", "[targets]") {
  CHECK(WithoutCondemned(PlacementOf({0, 1, 2, 2}), kLayer, TableWith(3, {0})) == PlacementOf({-1, 1, 0, 2}));
}

TEST_CASE("where nothing can be given up the target stays, for the planner to refuse", "[targets]") {
  const algos::Placement target = PlacementOf({0, 1, 2, 3});
  CHECK(WithoutCondemned(target, kLayer, TableWith(4, {0})) == target);
}

TEST_CASE("an expert whose replicas disagreed goes to no rank that lacks it", "[targets]") {
  SlotTable table({.num_experts = 2, .num_ranks = 2, .slots_per_rank = 2}, 1, 3);
  table.Confirm(kLayer, SlotIdx(0), {SlotState::kVerified, ExpertId(0), 0, 7});
  table.Confirm(kLayer, SlotIdx(1), {SlotState::kVerified, ExpertId(1), 0, 5});
  table.Confirm(kLayer, SlotIdx(2), {SlotState::kVerified, ExpertId(0), 0, 8});
  table.Confirm(kLayer, SlotIdx(3), {SlotState::kVerified, ExpertId(1), 0, 5});
  REQUIRE(table.FixFingerprints().size() == 1);
  CHECK(CheckConflicts(PlacementOf({0, 1, 1, 1}), kLayer, table).ok());
  const absl::Status refused = CheckConflicts(PlacementOf({0, 1, 1, 0}), kLayer, table);
  CHECK(absl::IsFailedPrecondition(refused));
  CHECK(refused.message() ==
        "move expert 0 of layer 0 to rank 1: its replicas disagree: fingerprint 0000000000000007 on rank 0, "
        "0000000000000008 on rank 1");
}

}  // namespace
}  // namespace evenkeel::controller
