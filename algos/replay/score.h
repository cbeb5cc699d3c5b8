// SPDX-License-Identifier: Apache-2.0
//
// Score: a replay in a few figures, and what no plan can better.
//
// Scored are the windows from the warm-up on, each layer of each counting alike; moves count where a map changed after
// window `warmup`, not at it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/statusor.h"

#include "algos/placement.h"
#include "algos/problem.h"
#include "algos/replay/replay.h"

namespace evenkeel::algos {

// In levels (rank_cost.h), of costs over capacities.
struct LevelScores {
  double mean = 1;
  double p95 = 1;
  double best_shares_mean = 1;
};

struct Scores {
  double imbalance_mean = 1;
  double imbalance_p95 = 1;     // linear between the two nearest
  double best_shares_mean = 1;  // imbalance had the shares been the best for every window on the same slots
  double moves_per_layer_per_100_windows = 0;
  double doubled_slots = 0;  // mean over windows and layers
  double retired_slots = 0;
  uint64_t num_moves = 0;
  std::optional<LevelScores> level = {};  // none where tokens alone count
};

// Requires: 0 <= warmup < num_windows.
Scores ScoresOf(const ReplayResult& result, int warmup);

// The imbalance that sampling leaves when every rank expects the same: the mean of max / mean over draws of `copies`
// tokens over `num_ranks` ranks. The same for the same arguments.
double NoiseFloor(uint64_t copies, int num_ranks);
// For the mean copies of a window and layer.
double NoiseFloor(std::span<const Load> timeline, int num_ranks);

// Bounds of the mean imbalance over the scored windows for placements made for each very window, with the best shares:
// of tokens, whatever `problem` counts, and of levels by its rules.
struct PlacementBounds {
  double lower = 1;  // none is better: max(1, what the hottest experts force with all the replicas there is room for)
  double found = 1;  // the best that the policies which pack anew find, each window alone
  std::optional<double> found_level = {};  // likewise in levels, of problems that count more than tokens
};
absl::StatusOr<PlacementBounds> BestPlacements(std::span<const Load> timeline, const Problem& problem, int warmup);

// Of one layer's load, over the mean rank load.
double LeastImbalance(const Shape& shape, std::span<const uint64_t> tokens);

}  // namespace evenkeel::algos
