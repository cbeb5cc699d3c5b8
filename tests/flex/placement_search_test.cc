// SPDX-License-Identifier: Apache-2.0
#include "algos/flex/placement_search.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <functional>

#include "algos/base/rng.h"
#include "algos/placement.h"

namespace evenkeel::algos {
namespace {

SearchGround GroundOf(const Shape& shape, int num_nodes = 1) {
  SearchGround ground{.num_hosts = num_nodes};
  for (int rank = 0; rank < shape.num_ranks; ++rank) {
    ground.speeds.push_back(1);
    ground.node_of_rank.push_back(rank / (shape.num_ranks / num_nodes));
  }
  ground.host_of_rank = ground.node_of_rank;
  return ground;
}

WeightedLoad LoadOf(const std::vector<uint64_t>& tokens, int num_ranks, double weight) {
  uint64_t sum = 0;
  for (uint64_t count : tokens) sum += count;
  WeightedLoad load{.weight = weight};
  for (uint64_t count : tokens) {
    load.tokens.push_back(static_cast<int64_t>(count) * num_ranks * kMeanRankCost / static_cast<int64_t>(sum));
  }
  return load;
}

std::vector<WeightedLoad> RandomLoads(const Shape& shape, int count, Rng& rng) {
  std::vector<WeightedLoad> loads;
  for (int k = 0; k < count; ++k) {
    std::vector<uint64_t> tokens;
    for (int e = 0; e < shape.num_experts; ++e) tokens.push_back(1 + rng.Below(1000) * (rng.Chance(0.2) ? 5 : 1));
    loads.push_back(LoadOf(tokens, shape.num_ranks, 1.0 / count));
  }
  return loads;
}

bool IsSound(const LayerSlots& slots) {
  if (!Validate(slots.placement(), slots.shape()).ok()) return false;
  for (int e = 0; e < slots.shape().num_experts; ++e) {
    const auto ranks = slots.ranks_of(ExpertId(e));
    if (std::ranges::adjacent_find(ranks) != ranks.end()) return false;
  }
  return true;
}

// The least measure of any placement that has each expert somewhere and none twice on a rank.
double BestOfAll(PlacementSearch& search, const Shape& shape, const PlacementSearch::Task& task) {
  double best = 1e300;
  Placement placement{std::vector<ExpertId>(static_cast<size_t>(shape.num_slots()), kNoExpert)};
  const std::function<void(int)> fill = [&](int slot) {
    if (slot == shape.num_slots()) {
      const LayerSlots slots(shape, placement);
      if (IsSound(slots)) best = std::min(best, search.Measure(shape, placement, task));
      return;
    }
    const bool is_first = slot % shape.slots_per_rank == 0;
    const int32_t first = is_first ? 0 : placement.expert_of_slot[static_cast<size_t>(slot) - 1].value() + 1;
    for (int32_t e = first; e < shape.num_experts; ++e) {
      placement.expert_of_slot[static_cast<size_t>(slot)] = ExpertId(e);
      fill(slot + 1);
    }
  };
  fill(0);
  return best;
}

TEST_CASE("small layers come close to the best of all placements", "[flex]") {
  const uint64_t seed = GENERATE(range(uint64_t{1}, uint64_t{21}));
  CAPTURE(seed);
  Rng rng(seed);
  const Shape shape{.num_experts = 5, .num_ranks = 3, .slots_per_rank = 3};
  const auto loads = RandomLoads(shape, 3, rng);
  const SearchGround ground = GroundOf(shape);
  PlacementSearch search(ground);
  LayerSlots slots(shape, DefaultPlacement(shape));
  double measure = 0;

  search.Improve({.episodes = loads}, {.moves_max = 100, .gain_min = 1e-6}, slots, measure);

  CHECK(IsSound(slots));
  CHECK(measure == Approx(search.Measure(shape, slots.placement(), {.episodes = loads})));
  const double best = BestOfAll(search, shape, {.episodes = loads});
  CHECK(measure >= best - 1e-9);
  CHECK(measure <= best + 0.05);
}

TEST_CASE("moves are as many as said, within the budget, and each worth its price", "[flex]") {
  const uint64_t seed = GENERATE(range(uint64_t{1}, uint64_t{31}));
  CAPTURE(seed);
  Rng rng(seed);
  const Shape shape{.num_experts = 40, .num_ranks = 8, .slots_per_rank = 6};
  const auto loads = RandomLoads(shape, 4, rng);
  const SearchGround ground = GroundOf(shape, 2);
  PlacementSearch search(ground);
  const Placement before = DefaultPlacement(shape);
  LayerSlots slots(shape, before);
  const double measure_before = search.Measure(shape, slots.placement(), {.episodes = loads});
  const int moves_max = static_cast<int>(rng.Below(8));
  double measure = 0;

  const int moves = search.Improve({.episodes = loads}, {.moves_max = moves_max, .gain_min = 0.002}, slots, measure);

  int written = 0;
  for (size_t s = 0; s < before.expert_of_slot.size(); ++s) {
    written += before.expert_of_slot[s] == slots.placement().expert_of_slot[s] ? 0 : 1;
  }
  CHECK(IsSound(slots));
  CHECK(moves <= moves_max);
  CHECK(written <= moves);
  CHECK(measure <= measure_before - 0.002 * moves + 0.001 * moves);  // less what crowded nodes may cost
}

TEST_CASE("pinned slots, homes and ranks that take no part are left alone", "[flex]") {
  const uint64_t seed = GENERATE(range(uint64_t{1}, uint64_t{11}));
  CAPTURE(seed);
  Rng rng(seed);
  const Shape shape{.num_experts = 24, .num_ranks = 6, .slots_per_rank = 6};
  const auto loads = RandomLoads(shape, 3, rng);
  SearchGround ground = GroundOf(shape, 2);
  ground.speeds[5] = 0;
  Placement placement = DefaultPlacement(shape);
  // Rank 4 takes over what rank 5 had alone.
  for (int local = 0; local < 6; ++local) placement.expert_of_slot[static_cast<size_t>(30 + local)] = kNoExpert;
  for (int local = 2; local < 6; ++local)
    placement.expert_of_slot[static_cast<size_t>(24 + local)] = ExpertId(18 + local);
  for (int local = 0; local < 6; ++local)
    placement.expert_of_slot[static_cast<size_t>(18 + local)] = ExpertId(14 + local);
  std::vector<uint8_t> pinned(36, 0);
  pinned[0] = pinned[7] = 1;
  std::vector<int32_t> home(24, -1);
  home[20] = 1;
  PlacementSearch search(ground);
  LayerSlots slots(shape, placement);
  double measure = 0;

  search.Improve({.episodes = loads, .pinned = pinned, .home_node = home}, {.moves_max = 100, .gain_min = 1e-5}, slots,
                 measure);

  CHECK(IsSound(slots));
  CHECK(slots.expert(SlotIdx(0)) == placement.expert_of_slot[0]);
  CHECK(slots.expert(SlotIdx(7)) == placement.expert_of_slot[7]);
  for (int s = 30; s < 36; ++s) CHECK(slots.expert(SlotIdx(s)) == kNoExpert);
  for (int32_t rank : slots.ranks_of(ExpertId(20))) CHECK(rank >= 3);
}

TEST_CASE("of two ways as good the one that spreads replicas over nodes is taken", "[flex]") {
  // Expert 0 is too much for rank 0; ranks 1 (same node) and 2 (the other) have equal room.
  const Shape shape{.num_experts = 4, .num_ranks = 4, .slots_per_rank = 2};
  const Placement placement{
      {ExpertId(0), kNoExpert, ExpertId(1), kNoExpert, ExpertId(2), kNoExpert, ExpertId(3), kNoExpert}};
  const std::vector<WeightedLoad> loads = {LoadOf({700, 100, 100, 300}, 4, 1.0)};
  const SearchGround ground = GroundOf(shape, 2);
  PlacementSearch search(ground);
  LayerSlots slots(shape, placement);
  double measure = 0;

  search.Improve({.episodes = loads}, {.moves_max = 1, .gain_min = 0.01}, slots, measure);

  CHECK(slots.Holds(RankId(2), ExpertId(0)));
}

}  // namespace
}  // namespace evenkeel::algos
