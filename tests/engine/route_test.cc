// SPDX-License-Identifier: Apache-2.0
#include "kernels/host/route.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/base/rng.h"
#include "algos/layer_map.h"
#include "algos/placement.h"

namespace evenkeel::kernels {
namespace {

using algos::LayerMap;
using algos::Placement;
using algos::Shape;

// A table with its storage.
struct Table {
  explicit Table(const LayerMap& map) : offsets(map.offsets), bounds(map.bounds) {
    for (SlotIdx slot : map.slots) slots.push_back(slot.value());
  }
  RouteTable get() const {
    return {.offsets = offsets.data(),
            .slots = slots.data(),
            .bounds = bounds.data(),
            .num_experts = static_cast<int32_t>(offsets.size()) - 1};
  }
  std::vector<int32_t> offsets, slots;
  std::vector<uint32_t> bounds;
};

// Random slots of random experts with random shares; some experts may have none.
LayerMap RandomMap(Rng& rng, const Shape& shape) {
  Placement placement;
  for (int s = 0; s < shape.num_slots(); ++s) {
    placement.expert_of_slot.push_back(
        ExpertId(static_cast<int32_t>(rng.Below(static_cast<uint64_t>(shape.num_experts)))));
  }
  algos::Shares shares;
  for (int s = 0; s < shape.num_slots(); ++s) shares.push_back(rng.Chance(0.1) ? 0.0 : rng.Uniform());
  return SharedMap(placement, shape.num_experts, shares);
}

// The definition, as slowly and plainly as can be: every position is held against every share.
int32_t NaiveSlot(const LayerMap& map, int64_t expert, uint32_t position, const std::vector<bool>& live_slot) {
  if (expert < 0 || expert + 1 >= static_cast<int64_t>(map.offsets.size())) return -1;
  const ExpertId id(static_cast<int32_t>(expert));
  uint64_t live_units = 0;
  for (int i = 0; i < map.num_replicas(id); ++i) {
    if (live_slot[map.slots_of(id)[static_cast<size_t>(i)].idx()]) live_units += map.ShareUnits(id, i);
  }
  const auto at = static_cast<uint64_t>((static_cast<unsigned __int128>(position) * live_units) >> 32);
  uint64_t sum = 0;
  for (int i = 0; i < map.num_replicas(id); ++i) {
    const SlotIdx slot = map.slots_of(id)[static_cast<size_t>(i)];
    if (!live_slot[slot.idx()]) continue;
    sum += map.ShareUnits(id, i);
    if (at < sum) return slot.value();
  }
  return -1;
}

}  // namespace

TEST_CASE("route equals the definition, for both id types, strides, lost ranks and odd ids", "[route]") {
  const uint64_t seed = GENERATE(range(1, 60));
  CAPTURE(seed);
  Rng rng(seed);
  const Shape shape{.num_experts = 1 + static_cast<int>(rng.Below(20)),
                    .num_ranks = 1 + static_cast<int>(rng.Below(5)),
                    .slots_per_rank = 1 + static_cast<int>(rng.Below(8))};
  const LayerMap map = RandomMap(rng, shape);
  const Table table(map);
  const auto top_k = static_cast<int32_t>(1 + rng.Below(8));
  const int64_t num_tokens = static_cast<int64_t>(rng.Below(50)), stride = top_k + static_cast<int64_t>(rng.Below(3));
  const int64_t first_token = static_cast<int64_t>(rng.Below(1000));
  std::vector<int32_t> ids(static_cast<size_t>(num_tokens * stride));
  for (int32_t& id : ids) id = static_cast<int32_t>(rng.Between(-2, shape.num_experts + 1));
  const std::vector<int64_t> long_ids(ids.begin(), ids.end());
  std::vector<uint32_t> lost(static_cast<size_t>(shape.num_ranks), 0);
  std::vector<uint64_t> joined(static_cast<size_t>(shape.num_ranks), 0);
  const bool masked = rng.Chance(0.5);
  for (uint32_t& word : lost) word = masked && rng.Chance(0.3) ? 1 : 0;
  for (uint64_t& view : joined) view = masked ? rng.Below(5) : 0;
  const RouteMask mask = masked ? RouteMask{.lost = lost.data(),
                                            .joined = joined.data(),
                                            .table_view = 3,
                                            .slots_per_rank = shape.slots_per_rank}
                                : RouteMask{};
  std::vector<bool> live_slot;
  for (int s = 0; s < shape.num_slots(); ++s) {
    const size_t rank = shape.RankOf(SlotIdx(s)).idx();
    live_slot.push_back(lost[rank] == 0 && joined[rank] <= 3);
  }
  const uint64_t salt = RouteSalt(1, 2, seed);

  std::vector<int32_t> slots(static_cast<size_t>(num_tokens * top_k), 77), long_slots = slots;
  std::vector<uint64_t> routed(static_cast<size_t>(shape.num_slots()), 0),
      unrouted(static_cast<size_t>(shape.num_experts), 0);
  RouteBatch batch{.ids = ids.data(),
                   .id_bytes = 4,
                   .top_k = top_k,
                   .num_tokens = num_tokens,
                   .row_stride = stride,
                   .first_token = first_token};
  const int64_t num_unknown =
      Route(table.get(), batch, salt, mask, {.routed = routed.data(), .unrouted = unrouted.data()}, slots.data());
  batch.ids = long_ids.data();
  batch.id_bytes = 8;
  Route(table.get(), batch, salt, mask, {}, long_slots.data());

  std::vector<int32_t> expected;
  std::vector<uint64_t> expected_routed(routed.size(), 0), expected_unrouted(unrouted.size(), 0);
  int64_t expected_unknown = 0;
  for (int64_t token = 0; token < num_tokens; ++token) {
    for (int32_t choice = 0; choice < top_k; ++choice) {
      const int32_t id = ids[static_cast<size_t>(token * stride + choice)];
      const auto copy = static_cast<uint64_t>((first_token + token) * top_k + choice);
      expected.push_back(NaiveSlot(map, id, RoutePosition(salt, static_cast<uint32_t>(id), copy), live_slot));
      if (expected.back() >= 0) ++expected_routed[static_cast<size_t>(expected.back())];
      if (id >= shape.num_experts) ++expected_unknown;
      if (expected.back() < 0 && id >= 0 && id < shape.num_experts) ++expected_unrouted[static_cast<size_t>(id)];
    }
  }
  CHECK(slots == expected);
  CHECK(long_slots == expected);
  CHECK(routed == expected_routed);
  CHECK(unrouted == expected_unrouted);
  CHECK(num_unknown == expected_unknown);
}

TEST_CASE("every position goes to a replica with a share, the last bound included", "[route]") {
  // Two replicas, the second with the least share there is.
  const LayerMap map{.offsets = {0, 2}, .slots = {SlotIdx(0), SlotIdx(1)}, .bounds = {UINT32_MAX - 1, UINT32_MAX}};
  const std::vector<bool> live = {true, true};
  CHECK(NaiveSlot(map, 0, UINT32_MAX - 1, live) == 0);
  CHECK(NaiveSlot(map, 0, UINT32_MAX, live) == 1);
  const Table table(map);
  const int32_t id = 0;
  int num_first = 0;
  for (int64_t token = 0; token < 10000; ++token) {
    int32_t slot = -1;
    Route(table.get(), {.ids = &id, .id_bytes = 4, .top_k = 1, .num_tokens = 1, .row_stride = 1, .first_token = token},
          5, {}, {}, &slot);
    num_first += slot == 0 ? 1 : 0;
  }
  CHECK(num_first == 10000);
}

TEST_CASE("shares are met by a hot expert's tokens within one batch", "[route]") {
  const int32_t top_k = GENERATE(1, 2, 3, 4, 5, 6, 8, 10, 12, 16);
  CAPTURE(top_k);
  const LayerMap map =
      SharedMap(Placement{{ExpertId(0), ExpertId(0), ExpertId(0)}}, 1, std::vector<double>{0.5, 0.3, 0.2});
  const Table table(map);
  // Expert 0 is everybody's first choice.
  const int64_t num_tokens = 256;
  std::vector<int32_t> ids(static_cast<size_t>(num_tokens * top_k), -1);
  for (size_t t = 0; t < static_cast<size_t>(num_tokens); ++t) ids[t * static_cast<size_t>(top_k)] = 0;
  double worst = 0;
  for (uint64_t step = 0; step < 200; ++step) {
    std::vector<int32_t> slots(ids.size());
    std::vector<uint64_t> routed(3, 0);
    Route(table.get(),
          {.ids = ids.data(),
           .id_bytes = 4,
           .top_k = top_k,
           .num_tokens = num_tokens,
           .row_stride = top_k,
           .first_token = 0},
          RouteSalt(0, 0, step), {}, {.routed = routed.data(), .unrouted = nullptr}, slots.data());
    const double shares[] = {0.5, 0.3, 0.2};
    for (size_t i = 0; i < 3; ++i) {
      worst = std::max(worst, std::abs(static_cast<double>(routed[i]) / static_cast<double>(num_tokens) - shares[i]));
    }
  }
  // Independent draws would miss by 3 standard deviations, 0.09, now and then.
  CHECK(worst < 0.04);
}

TEST_CASE("batches of one token meet the shares over the steps, alike on no two ranks", "[route]") {
  const LayerMap map = EvenMap(Placement{{ExpertId(0), ExpertId(0)}}, 1);
  const Table table(map);
  const int32_t id = 0;
  const int num_steps = 4000;
  std::vector<int> firsts;
  int num_equal = 0;
  std::vector<int32_t> of_rank_0;
  for (uint32_t rank = 0; rank < 2; ++rank) {
    int num_first = 0;
    for (uint64_t step = 0; step < num_steps; ++step) {
      int32_t slot = -1;
      Route(table.get(), {.ids = &id, .id_bytes = 4, .top_k = 1, .num_tokens = 1, .row_stride = 1, .first_token = 0},
            RouteSalt(rank, 0, step), {}, {}, &slot);
      num_first += slot == 0 ? 1 : 0;
      if (rank == 0) of_rank_0.push_back(slot);
      if (rank == 1) num_equal += slot == of_rank_0[step] ? 1 : 0;
    }
    // 4 standard deviations of independent draws.
    CHECK(std::abs(num_first - num_steps / 2) < 130);
  }
  CHECK(std::abs(num_equal - num_steps / 2) < 130);
}

TEST_CASE("without the step number a batch of one token goes to one replica for ever", "[route]") {
  const LayerMap map = EvenMap(Placement{{ExpertId(0), ExpertId(0)}}, 1);
  const Table table(map);
  const int32_t id = 0;
  int num_first = 0;
  for (int step = 0; step < 100; ++step) {
    int32_t slot = -1;
    Route(table.get(), {.ids = &id, .id_bytes = 4, .top_k = 1, .num_tokens = 1, .row_stride = 1, .first_token = 0},
          RouteSalt(0, 0, /*step=*/0), {}, {}, &slot);
    num_first += slot == 0 ? 1 : 0;
  }
  CHECK((num_first == 0 || num_first == 100));
}

}  // namespace evenkeel::kernels
