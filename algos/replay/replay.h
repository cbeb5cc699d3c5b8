// SPDX-License-Identifier: Apache-2.0
//
// Replay: a recorded timeline served window by window under a planner's maps, as if it came live.
//
// Causal: the map in force for a window depends on the windows before it alone, so a timeline that is cut short gives
// the same maps up to there. Every replay starts from the placement that engines start from (DefaultPlacement), split
// evenly; the planner acts from the first window on; scores and counted moves begin after the warm-up (score.h).
//
// Before each window, in this order: the planner is asked; waves that have arrived are published and new ones begin;
// shares are set. A layer's shares are those of its plan; with `solve_shares`, or while a plan with shares of its own is
// still on its way, they are solved on the last windows; otherwise tokens are split evenly.
//
// Order:     layers ascending; same arguments, same result.
// Errors:    kInvalidArgument for timelines and options that do not fit each other, and what the planner answers;
//            kFailedPrecondition, naming window and layer, for placements that waves cannot reach.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

#include "algos/base/ids.h"
#include "algos/placement.h"
#include "algos/problem.h"
#include "algos/rank_cost.h"
#include "algos/replay/links.h"
#include "algos/replay/planner.h"

namespace evenkeel::algos {

struct ReplayOptions {
  Shape shape = {};
  int num_nodes = 1;  // ranks are node-major; sources of moves are taken from the same node first
  bool solve_shares = false;
  int shares_windows = 5;               // that shares are solved on, > 0
  RankRules rules = {};                 // that shares are solved by, and levels judged; no rank is absent
  std::optional<LinkSpeed> links = {};  // none: moves take no time
};

// A layer's map from `window` on.
struct MapChange {
  int window = 0;
  LayerId layer;
  const Placement& placement;      // slots that are in no map are blank
  const Replicas& replicas;        // its inverse
  std::span<const double> shares;  // parallel to replicas.slots; empty: even
};

struct ReplayObserver {
  std::function<void(const MapChange&)> on_map = {};  // placement or shares changed; at window 0 each layer's first
  std::function<void(int)> on_window = {};            // before each window
};

struct ReplayResult {
  int num_windows = 0, num_layers = 0;
  // [num_windows * num_layers], window-major.
  std::vector<double> imbalance = {};     // as served
  std::vector<double> best_shares = {};   // imbalance with the best shares for that very window on the slots in force
  std::vector<double> level = {};         // as served, by the options' rules; empty where those count tokens alone
  std::vector<double> best_level = {};    // likewise with the best shares for that very window
  std::vector<int32_t> moves = {};        // experts that ranks began to hold with this window's map
  std::vector<int32_t> num_doubled = {};  // slots whose expert another slot of the rank, before it, holds
  std::vector<int32_t> num_retired = {};  // slots in no map
  // [num_layers * num_ranks]: the rank's load over the mean rank's, as served, summed over the windows from
  // `first_scored` on.
  std::vector<double> rank_loads = {};
  std::vector<Placement> placements = {};  // [num_layers] at the end

  size_t At(int window, LayerId layer) const {
    return static_cast<size_t>(window) * static_cast<size_t>(num_layers) + layer.idx();
  }
};

absl::StatusOr<ReplayResult> Replay(std::span<const Load> timeline, int first_scored, const ReplayOptions& options,
                                    const Planner& planner, const ReplayObserver& observer = {});

}  // namespace evenkeel::algos
