// SPDX-License-Identifier: Apache-2.0
//
// Report: a simulation as one HTML page that needs nothing beside it: heat maps of the experts, loads of the ranks
// before and after, imbalance and moves over time.
//
// The page is template.html with the figures put in as JSON. Long timelines and many experts are drawn coarser than
// they are, and the page says how much: at most kPointsMax points a line, about kCellsMax cells over all heat maps.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "algos/problem.h"
#include "cli/simulate/simulation.h"

namespace evenkeel::cli {

inline constexpr size_t kPointsMax = 300;
inline constexpr size_t kLayerPointsMax = 120;
inline constexpr size_t kCellsMax = 1'500'000;

struct ReportInput {
  const std::string& timeline_name;
  const std::vector<algos::Load>& timeline;
  const SimulationOptions& options;
  const Simulation& simulation;
};

std::string RenderReport(const ReportInput& input);

}  // namespace evenkeel::cli
