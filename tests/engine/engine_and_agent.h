// SPDX-License-Identifier: Apache-2.0
//
// EngineAndAgent: a ready region and the agent that holds it, in one process.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/layer_map.h"
#include "algos/placement.h"
#include "engine/evenkeel.h"
#include "engine/region/agent_region.h"
#include "tests/engine/test_region.h"

namespace evenkeel::engine {

// What SmallOptions asks for.

inline constexpr algos::Shape kShape{.num_experts = 8, .num_ranks = 4, .slots_per_rank = 3};

inline std::vector<algos::LayerMap> Maps() {
  return std::vector<algos::LayerMap>(2, EvenMap(DefaultPlacement(kShape), kShape.num_experts));
}

// An engine, ready, and its agent.
struct EngineAndAgent {
  explicit EngineAndAgent(const evenkeel_options& options) : region(options) {
    region.MakeReady();
    auto opened = AgentRegion::Open(region.path());
    INFO(opened.status());
    REQUIRE(opened.ok());
    agent = *std::move(opened);
  }
  int64_t Begin(int lane = 0, evenkeel_kind kind = EVENKEEL_REAL) {
    const int64_t ticket = evenkeel_begin_step(region.get(), lane, EVENKEEL_DECODE, kind);
    REQUIRE(ticket > 0);
    return ticket;
  }
  void End(int64_t ticket, int lane = 0) { REQUIRE(evenkeel_end_step(region.get(), lane, ticket) == EVENKEEL_OK); }
  void Write(uint32_t number, uint64_t view_number = 0) {
    const auto written = agent->TryWriteMaps({1, number}, view_number, 5, Maps());
    INFO(written.status());
    REQUIRE(written.ok());
    REQUIRE(*written == MapsWrite::kWritten);
  }

  TestRegion region;
  std::unique_ptr<AgentRegion> agent;
};

}  // namespace evenkeel::engine
