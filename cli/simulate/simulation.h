// SPDX-License-Identifier: Apache-2.0
//
// Simulation: several planners replayed over one timeline, scored alike.
//
// Every run is a policy with its cadence; the first is always the placement that engines start from, never changed.
//
// Errors:    kInvalidArgument for what does not fit the timeline, named as the option that says it; those of replay.h.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "algos/policy.h"
#include "algos/problem.h"
#include "algos/rank_cost.h"
#include "algos/replay/replay.h"
#include "algos/replay/score.h"

namespace evenkeel::cli {

struct SimulationOptions {
  algos::Shape shape = {};
  int num_nodes = 1;
  int num_expert_groups = 1;
  std::vector<std::string> policies = {};
  std::vector<int> intervals = {100};  // of the policies without moments of their own
  int history = 0;                     // windows; 0: as the interval
  int warmup = 100;
  bool solve_shares = false;
  int shares_windows = 5;
  algos::PolicyConfig config = {};  // each option goes to the policies that have it
  std::optional<algos::LinkSpeed> links = {};
  algos::RankRules rules = {};  // what planners plan by and levels are judged by, beside imbalance in tokens
};

struct SimulationRun {
  std::string name;    // unique: "deepseek/20", "flex"; "contiguous" is the first
  std::string policy;  // "contiguous" for none
  int interval = 0;    // 0: chooses its own moments, or none
  int history = 0;
  bool solves_shares = false;  // told to, beside its policy
  algos::Scores scores = {};
  algos::ReplayResult result = {};
};

struct Simulation {
  std::vector<SimulationRun> runs;
  double noise_floor = 1;
  algos::PlacementBounds bounds = {};
};

struct SimulationObserver {
  std::function<void(const std::string& run)> on_window = {};  // once for each run and window, and for the bounds
  std::function<void(const std::string& run, const algos::MapChange&)> on_map = {};
};

// What will be run, in order: names alone. For checks before a long run.
absl::StatusOr<std::vector<SimulationRun>> PlanRuns(const SimulationOptions& options);

absl::StatusOr<Simulation> Simulate(const std::vector<algos::Load>& timeline, const SimulationOptions& options,
                                    const SimulationObserver& observer = {});

}  // namespace evenkeel::cli
