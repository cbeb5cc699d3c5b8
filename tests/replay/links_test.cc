// SPDX-License-Identifier: Apache-2.0
#include "algos/replay/links.h"

#include <utility>
#include <vector>

#include "catch2/catch.hpp"

namespace evenkeel::algos {
namespace {

constexpr Shape kShape{.num_experts = 4, .num_ranks = 4, .slots_per_rank = 2};

PlannedMove Move(int slot, int source) { return {SlotIdx(slot), ExpertId(0), {SlotIdx(source)}}; }

Wave WaveOf(std::vector<PlannedMove> moves) { return {{}, std::move(moves), 0}; }

LinkSpeed Speed(double windows_per_move) {
  return {.expert_bytes = 1000, .link_bytes_per_second = 1000 / windows_per_move, .window_seconds = 1};
}

TEST_CASE("moves over different links run together, over one link one after the other", "[links]") {
  const Wave apart = WaveOf({Move(0, 4), Move(2, 6)}), into_one = WaveOf({Move(0, 4), Move(1, 6)}),
             out_of_one = WaveOf({Move(0, 4), Move(2, 5)});
  CHECK(Links(Speed(2), 4).Begin(apart, kShape, 10) == 12);
  CHECK(Links(Speed(2), 4).Begin(into_one, kShape, 10) == 14);
  CHECK(Links(Speed(2), 4).Begin(out_of_one, kShape, 10) == 14);
}

TEST_CASE("a map changes at the edge of a window, so the shortest wave takes one", "[links]") {
  CHECK(Links(Speed(0.001), 4).Begin(WaveOf({Move(0, 4)}), kShape, 3) == 4);
  CHECK(Links(Speed(1.5), 4).Begin(WaveOf({Move(0, 4)}), kShape, 3) == 5);
  CHECK(Speed(0.25).MovesPerWindow() == 4);
  CHECK(Speed(3).MovesPerWindow() == 1);
}

TEST_CASE("layers share the links: a wave that would wait for them is not begun", "[links]") {
  Links links(Speed(0.6), 4);
  CHECK(links.Begin(WaveOf({Move(0, 4)}), kShape, 0) == 1);
  CHECK_FALSE(links.Begin(WaveOf({Move(1, 6)}), kShape, 0).has_value());
  CHECK(links.Begin(WaveOf({Move(2, 6)}), kShape, 0) == 1);  // other links
  CHECK(links.Begin(WaveOf({Move(1, 7)}), kShape, 1) == 2);
}

TEST_CASE("a copy within a rank takes only the link into it", "[links]") {
  Links links(Speed(1), 4);
  CHECK(links.Begin(WaveOf({Move(0, 1)}), kShape, 0) == 1);
  CHECK(links.Begin(WaveOf({Move(4, 1)}), kShape, 0) == 1);  // out of the same rank
}

}  // namespace
}  // namespace evenkeel::algos
