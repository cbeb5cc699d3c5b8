// SPDX-License-Identifier: Apache-2.0
//
// Metrics: what Prometheus reads of a controller, made afresh from its groups' status at every scrape.
//
// Names follow Prometheus's conventions: base units, ratios from 0 or 1, "_total" for what only grows within one
// process. Labels are bounded: groups by the controller's limit, ranks by the group's, layers by kLayerSeriesMax.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "controller/core/latency_counts.h"
#include "controller/core/status.h"

namespace evenkeel::controller {

// Series of single layers, over all groups; a group whose layers would be too many has none, only its means.
inline constexpr int kLayerSeriesMax = 4096;

struct MetricsSource {
  uint32_t term = 0;
  bool leading = false;
  uint64_t num_store_failures = 0;
  uint64_t num_tasks_refused = 0;  // as the strand's queue was full
  LatencyCounts step_times;        // of the coordinator, by event
  struct Ended {
    std::string group, cause, state;
    uint64_t count = 0;
  };
  std::vector<Ended> operations_ended;
  std::vector<std::pair<std::string, uint64_t>> refused = {};  // calls, by reason
  std::vector<GroupStatus> groups;
};

// In Prometheus's text format.
std::string MetricsText(const MetricsSource& source);

}  // namespace evenkeel::controller
