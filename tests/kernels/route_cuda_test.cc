// SPDX-License-Identifier: Apache-2.0
#include "kernels/route_cuda.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/base/rng.h"
#include "kernels/host/route.h"
#include "tests/kernels/route_on_device.h"

namespace evenkeel::kernels {
namespace {

// Experts without a replica, with one, and with many.
RouteMoment RandomMoment(Rng& rng, const RouteCase& c) {
  RouteMoment moment;
  moment.offsets.push_back(0);
  const auto num_slots = static_cast<uint64_t>(c.num_slots);
  std::vector<int32_t> free(num_slots);
  std::iota(free.begin(), free.end(), 0);
  for (size_t i = free.size(); i > 1; --i) std::swap(free[i - 1], free[rng.Below(i)]);
  for (int32_t e = 0; e < c.num_experts; ++e) {
    const uint64_t left = free.size();
    uint64_t replicas = rng.Below(20) == 0 ? 0 : 1 + (rng.Below(4) == 0 ? rng.Below(6) : 0);
    replicas = std::min(replicas, left);
    std::vector<uint32_t> bounds;
    for (uint64_t i = 0; i + 1 < replicas; ++i) bounds.push_back(static_cast<uint32_t>(rng.Next()));
    if (replicas > 0) bounds.push_back(~uint32_t{0});
    std::sort(bounds.begin(), bounds.end());
    for (uint64_t i = 0; i < replicas; ++i) {
      moment.slots.push_back(free.back());
      free.pop_back();
    }
    moment.bounds.insert(moment.bounds.end(), bounds.begin(), bounds.end());
    moment.offsets.push_back(static_cast<int32_t>(moment.slots.size()));
  }
  moment.step = rng.Next();
  return moment;
}

void AddMask(Rng& rng, const RouteCase& c, RouteMoment& moment, uint64_t one_in) {
  const auto num_ranks = static_cast<size_t>(c.num_slots / c.slots_per_rank);
  moment.lost.assign(num_ranks, 0);
  moment.joined.assign(num_ranks, 1);
  moment.view = 1 + rng.Below(3);
  for (size_t r = 0; r < num_ranks; ++r) {
    if (one_in > 0 && rng.Below(one_in) == 0) moment.lost[r] = 1;
    if (one_in > 0 && rng.Below(one_in) == 0) moment.joined[r] = moment.view + 1;
  }
}

RouteCase RandomCase(Rng& rng, int64_t num_tokens) {
  RouteCase c;
  c.num_experts = 1 + static_cast<int32_t>(rng.Below(300));
  c.slots_per_rank = 1 + static_cast<int32_t>(rng.Below(9));
  c.num_slots = c.slots_per_rank * (c.num_experts / c.slots_per_rank + 1 + static_cast<int32_t>(rng.Below(20)));
  c.top_k = 1 + static_cast<int32_t>(rng.Below(9));
  c.num_tokens = num_tokens;
  c.row_stride = c.top_k + static_cast<int64_t>(rng.Below(2) * rng.Below(4));
  c.id_bytes = rng.Below(2) == 0 ? 4 : 8;
  c.slot_bytes = rng.Below(3) == 0 ? (rng.Below(2) == 0 ? 4 : 8) : 0;
  c.first_token = static_cast<int64_t>(rng.Below(1 << 20));
  c.rank = static_cast<uint32_t>(rng.Below(64));
  c.layer = static_cast<uint32_t>(rng.Below(64));
  c.misalignment = static_cast<int32_t>(rng.Below(4));
  for (int64_t i = 0; i < c.num_tokens * c.row_stride; ++i) {
    const uint64_t kind = rng.Below(50);
    const auto expert = static_cast<int64_t>(rng.Below(static_cast<uint64_t>(c.num_experts)));
    c.ids.push_back(kind == 0 ? -1 : kind == 1 ? c.num_experts + expert : expert);
  }
  return c;
}

struct Expected {
  std::vector<int64_t> slots;
  std::vector<uint64_t> routed, unrouted;
  uint64_t num_unknown = 0;
};

// One copy after another, as the header says; the shares by the host's own Route.
Expected RouteOnHost(const RouteCase& c, const RouteMoment& m) {
  Expected expected;
  std::vector<uint64_t> by_slot(static_cast<size_t>(c.num_slots));
  expected.unrouted.assign(static_cast<size_t>(c.num_experts), 0);
  std::vector<int32_t> slots(static_cast<size_t>(c.num_tokens * c.top_k));
  const RouteTable table{m.offsets.data(), m.slots.data(), m.bounds.data(), c.num_experts};
  RouteMask mask;
  if (!m.lost.empty()) mask = {m.lost.data(), m.joined.data(), m.view, c.slots_per_rank};
  const RouteBatch batch{c.ids.data(), 8, c.top_k, c.num_tokens, c.row_stride, c.first_token};
  expected.num_unknown = static_cast<uint64_t>(Route(table, batch, RouteSalt(c.rank, c.layer, m.step), mask,
                                                     {by_slot.data(), expected.unrouted.data()}, slots.data()));
  std::vector<uint64_t> by_expert(static_cast<size_t>(c.num_experts));
  std::fill(by_slot.begin(), by_slot.end(), 0);
  for (int64_t t = 0; t < c.num_tokens; ++t) {
    for (int32_t k = 0; k < c.top_k; ++k) {
      int32_t& slot = slots[static_cast<size_t>(t * c.top_k + k)];
      const int64_t expert = c.ids[static_cast<size_t>(t * c.row_stride + k)];
      if (c.mode != RouteMode::kShares && slot >= 0) {
        const auto first = m.offsets[static_cast<size_t>(expert)], end = m.offsets[static_cast<size_t>(expert) + 1];
        const auto count = static_cast<uint64_t>(end - first);
        const auto token = static_cast<uint64_t>(c.first_token + t);
        const uint64_t at = c.mode == RouteMode::kFlatPosition
                                ? (token * static_cast<uint64_t>(c.top_k) + static_cast<uint64_t>(k) + c.rank) % count
                                : (token * 2654435769u % (uint64_t{1} << 32)) % count;
        slot = m.slots[static_cast<size_t>(first) + at];
      }
      if (slot >= 0) {
        ++by_slot[static_cast<size_t>(slot)];
        ++by_expert[static_cast<size_t>(expert)];
      }
    }
  }
  expected.slots.assign(slots.begin(), slots.end());
  expected.routed = c.count == RouteCount::kSlots ? by_slot : by_expert;
  return expected;
}

void CheckEqual(const RouteCase& c, const std::vector<RouteMoment>& moments) {
  const std::vector<RouteOutcome> outcomes = RouteOnDevice(c, moments);
  REQUIRE(outcomes.size() == moments.size());
  Expected total;
  for (size_t i = 0; i < moments.size(); ++i) {
    CAPTURE(i);
    const Expected now = RouteOnHost(c, moments[i]);
    REQUIRE(outcomes[i].error == 0);
    CHECK(outcomes[i].slots == now.slots);
    total.routed.resize(now.routed.size());
    total.unrouted.resize(now.unrouted.size());
    for (size_t s = 0; s < now.routed.size(); ++s) total.routed[s] += now.routed[s];
    for (size_t e = 0; e < now.unrouted.size(); ++e) total.unrouted[e] += now.unrouted[e];
    total.num_unknown += now.num_unknown;
    CHECK(outcomes[i].routed == total.routed);
    CHECK(outcomes[i].unrouted == total.unrouted);
    CHECK(outcomes[i].num_unknown == total.num_unknown);
  }
}

}  // namespace

TEST_CASE("the GPU routes and counts as the CPU does, whatever the sizes, types and strides", "[gpu]") {
  const int64_t num_tokens = GENERATE(0, 1, 31, 32, 33, 127, 1000, 4099);
  const uint64_t seed = GENERATE(range(1, 9));
  CAPTURE(num_tokens, seed);
  Rng rng(seed * 1000 + static_cast<uint64_t>(num_tokens));
  RouteCase c = RandomCase(rng, num_tokens);
  c.count = rng.Below(2) == 0 ? RouteCount::kSlots : RouteCount::kExperts;
  CheckEqual(c, {RandomMoment(rng, c)});
}

TEST_CASE("both modulo modes choose as published", "[gpu]") {
  const auto mode = GENERATE(RouteMode::kFlatPosition, RouteMode::kTokenHash);
  const uint64_t seed = GENERATE(range(1, 9));
  CAPTURE(static_cast<int>(mode), seed);
  Rng rng(seed);
  RouteCase c = RandomCase(rng, 777);
  c.mode = mode;
  CheckEqual(c, {RandomMoment(rng, c)});
}

TEST_CASE("one captured graph follows tables, masks and steps that change under it", "[gpu]") {
  const uint64_t seed = GENERATE(range(1, 9));
  CAPTURE(seed);
  Rng rng(seed);
  RouteCase c = RandomCase(rng, 500);
  std::vector<RouteMoment> moments;
  for (uint64_t i = 0; i < 6; ++i) {
    moments.push_back(RandomMoment(rng, c));
    AddMask(rng, c, moments.back(), i % 3 == 0 ? 0 : i);
  }
  CheckEqual(c, moments);
}

TEST_CASE("tables too large for shared memory are read where they are", "[gpu]") {
  Rng rng(5);
  RouteCase c = RandomCase(rng, 3000);
  c.num_experts = 4096;
  c.slots_per_rank = 16;
  c.num_slots = 16 * 400;
  for (int64_t& id : c.ids) id = static_cast<int64_t>(rng.Below(4096));
  std::vector<RouteMoment> moments = {RandomMoment(rng, c), RandomMoment(rng, c)};
  for (RouteMoment& moment : moments) AddMask(rng, c, moment, 4);
  CheckEqual(c, moments);
}

TEST_CASE("sizes that make no sense are refused", "[gpu]") {
  Rng rng(9);
  RouteCase c = RandomCase(rng, 10);
  const std::vector<RouteMoment> moments = {RandomMoment(rng, c)};
  RouteCase wrong = c;
  wrong.slot_bytes = 2;
  CHECK(RouteOnDevice(wrong, moments)[0].error != 0);
  wrong = c;
  wrong.row_stride = c.top_k - 1;
  CHECK(RouteOnDevice(wrong, moments)[0].error != 0);
}

}  // namespace evenkeel::kernels
