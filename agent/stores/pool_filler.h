// SPDX-License-Identifier: Apache-2.0
//
// PoolFiller: puts what this rank holds, and nobody else of the host is to, into the host's pool.
//
// Threads:   none of its own. Refers to region and pool, which outlive the calls.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "agent/core/event.h"
#include "agent/stores/held_experts.h"
#include "agent/stores/host_pool.h"
#include "algos/base/ids.h"
#include "engine/region/agent_region.h"

namespace evenkeel::agent {

// OwnersOf every layer: [num_layers][num_experts].
using Owners = std::vector<std::vector<RankId>>;
Owners OwnersOf(const Maps& maps, const algos::Shape& shape);

struct PoolFill {
  int num_filled = 0;
  uint64_t bytes = 0;
  bool complete = false;  // nothing is left that could be done now
  absl::Status trouble;   // the last one; kResourceExhausted: the pool is full. What others do just now is none.
};

// What is worth most first, until `until`.
PoolFill FillPool(const engine::AgentRegion& region, const Maps& maps, const Owners& owners, HostPool& pool,
                  const Pace& pace, absl::Time until);

}  // namespace evenkeel::agent
