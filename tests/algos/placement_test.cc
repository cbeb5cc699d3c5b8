// SPDX-License-Identifier: Apache-2.0
#include "algos/placement.h"

#include <catch2/catch.hpp>

#include "algos/base/rng.h"
#include "tests/golden/golden.h"

namespace evenkeel::algos {
namespace {

Placement PlacementFrom(std::initializer_list<int> experts) {
  Placement placement;
  for (int expert : experts) placement.expert_of_slot.push_back(ExpertId(expert));
  return placement;
}

std::vector<int32_t> ExpertsOf(const Placement& placement, const Shape& shape, int rank) {
  std::vector<int32_t> experts;
  for (int local = 0; local < shape.slots_per_rank; ++local) {
    experts.push_back(placement.expert_of_slot[shape.SlotAt(RankId(rank), local).idx()].value());
  }
  return experts;
}

TEST_CASE("slots are rank-major", "[placement]") {
  const Shape shape{.num_experts = 5, .num_ranks = 3, .slots_per_rank = 4};
  CHECK(shape.num_slots() == 12);
  CHECK(shape.num_redundant() == 7);
  for (int slot = 0; slot < 12; ++slot) {
    CHECK(shape.RankOf(SlotIdx(slot)) == RankId(slot / 4));
    CHECK(shape.SlotAt(shape.RankOf(SlotIdx(slot)), shape.LocalSlot(SlotIdx(slot))) == SlotIdx(slot));
  }
}

TEST_CASE("shapes without room or with counts of none are refused", "[placement]") {
  CHECK(Validate(Shape{8, 4, 2}).ok());
  CHECK(Validate(Shape{8, 4, 1}).message() == "shape of 8 experts on 4 ranks x 1 slots: 4 experts have no slot");
  for (const Shape& shape : {Shape{0, 4, 2}, Shape{8, 0, 2}, Shape{8, 4, 0}, Shape{-1, -1, -1}}) {
    CHECK(Validate(shape).code() == absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE("the last of 16 ranks holds experts 240 to 255, and expert 0 behind them with one redundant slot",
          "[placement]") {
  const testing::Golden golden("initial_maps.txt");
  const int ranks = golden.number("ranks"), experts = golden.number("experts");
  const Shape plain{experts, ranks, experts / ranks};
  CHECK(ExpertsOf(DefaultPlacement(plain), plain, 15) == golden.flat<int32_t>("last_rank_plain"));
  const Shape redundant{experts, ranks, (experts + golden.number("redundant")) / ranks};
  CHECK(ExpertsOf(DefaultPlacement(redundant), redundant, 15) == golden.flat<int32_t>("last_rank_redundant"));
}

TEST_CASE("without redundancy the default placement is linear", "[placement]") {
  const int ranks = GENERATE(1, 2, 3, 7, 32);
  const int slots = GENERATE(1, 2, 9);
  const Placement placement = DefaultPlacement({ranks * slots, ranks, slots});
  for (int s = 0; s < ranks * slots; ++s) CHECK(placement.expert_of_slot[static_cast<size_t>(s)] == ExpertId(s));
}

TEST_CASE("experts that do not divide by the ranks all have a slot", "[placement]") {
  const Shape shape{.num_experts = 10, .num_ranks = 4, .slots_per_rank = 3};
  const Placement placement = DefaultPlacement(shape);
  CHECK(Validate(placement, shape).ok());
  CHECK(ExpertsOf(placement, shape, 0) == std::vector<int32_t>{0, 1, 2});
  CHECK(ExpertsOf(placement, shape, 1) == std::vector<int32_t>{2, 3, 4});
  CHECK(ExpertsOf(placement, shape, 2) == std::vector<int32_t>{5, 6, 7});
  CHECK(ExpertsOf(placement, shape, 3) == std::vector<int32_t>{7, 8, 9});
}

TEST_CASE("more ranks than experts share them evenly", "[placement]") {
  const Shape shape{.num_experts = 3, .num_ranks = 8, .slots_per_rank = 1};
  const Placement placement = DefaultPlacement(shape);
  CHECK(placement == PlacementFrom({0, 0, 0, 1, 1, 1, 2, 2}));
  CHECK(Validate(placement, shape).ok());
}

TEST_CASE("any shape with room has a valid default placement with no blank", "[placement]") {
  const uint64_t seed = GENERATE(range(0, 300));
  CAPTURE(seed);
  Rng rng(seed);
  Shape shape{static_cast<int>(rng.Between(1, 300)), static_cast<int>(rng.Between(1, 70)), 0};
  shape.slots_per_rank = (shape.num_experts + shape.num_ranks - 1) / shape.num_ranks + static_cast<int>(rng.Below(4));
  const Placement placement = DefaultPlacement(shape);
  REQUIRE(Validate(placement, shape).ok());
  for (ExpertId expert : placement.expert_of_slot) REQUIRE(expert.valid());
}

TEST_CASE("the inverse lists each expert's slots in order, and only those", "[placement]") {
  const Replicas replicas = Invert(PlacementFrom({2, 0, -1, 2, 2, 1}), 4);
  CHECK(replicas.offsets == std::vector<int32_t>{0, 1, 2, 5, 5});
  CHECK(replicas.slots == std::vector<SlotIdx>{SlotIdx(1), SlotIdx(5), SlotIdx(0), SlotIdx(3), SlotIdx(4)});
  CHECK(replicas.num_replicas(ExpertId(2)) == 3);
  CHECK(replicas.slots_of(ExpertId(3)).empty());
  CHECK(replicas.slots_of(ExpertId(2)).front() == SlotIdx(0));
}

TEST_CASE("inverting twice gives the placement back", "[placement]") {
  const uint64_t seed = GENERATE(range(0, 100));
  CAPTURE(seed);
  Rng rng(seed);
  Placement placement;
  for (int s = 0; s < 40; ++s) placement.expert_of_slot.push_back(ExpertId(static_cast<int32_t>(rng.Between(-1, 9))));
  const Replicas replicas = Invert(placement, 10);
  Placement again;
  again.expert_of_slot.assign(40, kNoExpert);
  for (int e = 0; e < 10; ++e) {
    for (SlotIdx slot : replicas.slots_of(ExpertId(e))) again.expert_of_slot[slot.idx()] = ExpertId(e);
  }
  CHECK(again == placement);
}

TEST_CASE("a placement of another size, with an unknown expert or without one is refused by name", "[placement]") {
  const Shape shape{.num_experts = 3, .num_ranks = 2, .slots_per_rank = 2};
  CHECK(Validate(PlacementFrom({0, 1, 2, -1}), shape).ok());
  CHECK(Validate(PlacementFrom({0, 1, 2}), shape).message() == "placement of 3 slots: the group has 4");
  CHECK(Validate(PlacementFrom({0, 1, 2, 3}), shape).message() ==
        "placement: slot 3 holds expert 3; experts are 0 to 2");
  CHECK(Validate(PlacementFrom({0, 1, -5, 2}), shape).code() == absl::StatusCode::kInvalidArgument);
  CHECK(Validate(PlacementFrom({0, 1, 1, 0}), shape).message() == "placement: expert 2 has no slot");
}

TEST_CASE("ranks beyond the first world hold nothing in the default placement", "[placement]") {
  const Shape shape{.num_experts = 6, .num_ranks = 5, .slots_per_rank = 3};
  const Placement small = DefaultPlacement({.num_experts = 6, .num_ranks = 3, .slots_per_rank = 3});
  Placement expected = small;
  expected.expert_of_slot.resize(15, kNoExpert);
  CHECK(DefaultPlacement(shape, 3) == expected);
  CHECK(DefaultPlacement(shape, 0) == DefaultPlacement(shape));
}

}  // namespace
}  // namespace evenkeel::algos
