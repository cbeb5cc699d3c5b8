// SPDX-License-Identifier: Apache-2.0
#include "cli/simulate/simulation.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "algos/flex/flex.h"
#include "algos/flex/flex_follow.h"
#include "algos/flex/flex_policy.h"
#include "algos/policies/registry.h"
#include "algos/replay/planner.h"

namespace evenkeel::cli {

namespace {

constexpr const char* kContiguous = "contiguous";
constexpr const char* kFlex = "flex";  // chooses its own moments: it is told of every window

algos::Problem ProblemOf(const SimulationOptions& options, int num_layers) {
  return {.shape = options.shape,
          .num_layers = num_layers,
          .num_nodes = options.num_nodes,
          .num_expert_groups = options.num_expert_groups,
          .capacities = options.rules.capacities,
          .cost = options.rules.cost};
}

absl::StatusOr<algos::NamedPolicy> Find(const std::string& name) {
  const absl::StatusOr<algos::NamedPolicy> found = algos::FindPolicy(name);
  if (!found.ok()) return absl::InvalidArgumentError(absl::StrCat("--policy: ", found.status().message()));
  return found;
}

// The options that `policy` has.
algos::PolicyConfig ConfigFor(const algos::NamedPolicy& policy, const algos::PolicyConfig& config) {
  algos::PolicyConfig own;
  own.placements = config.placements;
  for (const algos::PolicyOption& option : policy.options) {
    const auto found = config.options.find(std::string(option.name));
    if (found != config.options.end()) own.options.insert(*found);
  }
  return own;
}

absl::Status CheckConfig(const SimulationOptions& options) {
  std::set<std::string> known;
  for (const std::string& name : options.policies) {
    EVENKEEL_ASSIGN_OR_RETURN(const algos::NamedPolicy policy, Find(name));
    EVENKEEL_RETURN_IF_ERROR(
        algos::ReadOptions(policy.name, policy.options, ConfigFor(policy, options.config)).status());
    for (const algos::PolicyOption& option : policy.options) known.insert(std::string(option.name));
  }
  for (const auto& [name, value] : options.config.options) {
    if (!known.contains(name)) {
      return absl::InvalidArgumentError(absl::StrCat("--policy-config: none of the policies has an option ", name));
    }
  }
  return absl::OkStatus();
}

// Those of the policy's options that a Flex which lives on takes, too.
absl::StatusOr<algos::FlexOptions> FlexOptionsFrom(const algos::NamedPolicy& policy,
                                                   const algos::PolicyConfig& config) {
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<double> values,
                            algos::ReadOptions(policy.name, policy.options, ConfigFor(policy, config)));
  algos::FlexOptions options;
  for (size_t i = 0; i < values.size(); ++i) {
    const std::string_view name = policy.options[i].name;
    if (name == "gain_min") options.gain_min = values[i];
    if (name == "weight_now") options.weight_now = values[i];
    if (name == "exaggeration") options.exaggeration = values[i];
    if (name == "episodes_max") options.num_episodes_max = static_cast<int>(values[i]);
  }
  return options;
}

absl::StatusOr<algos::Planner> PlannerOf(const SimulationRun& run, const SimulationOptions& options, int num_layers) {
  if (run.policy == kContiguous) return algos::NeverPlans();
  EVENKEEL_ASSIGN_OR_RETURN(const algos::NamedPolicy policy, Find(run.policy));
  if (policy.name == kFlex) {
    EVENKEEL_ASSIGN_OR_RETURN(const algos::FlexOptions flex, FlexOptionsFrom(policy, options.config));
    return algos::FollowWithFlex(flex, ProblemOf(options, num_layers));
  }
  return algos::EveryWindows({.interval = run.interval,
                              .history = run.history,
                              .aligned_to = options.warmup,
                              .policy = run.policy,
                              .config = ConfigFor(policy, options.config),
                              .problem = ProblemOf(options, num_layers)});
}

}  // namespace

absl::StatusOr<std::vector<SimulationRun>> PlanRuns(const SimulationOptions& options) {
  EVENKEEL_RETURN_IF_ERROR(CheckConfig(options));
  std::vector<SimulationRun> runs;
  runs.push_back({.name = kContiguous, .policy = kContiguous});
  for (const std::string& policy : options.policies) {
    if (policy == kFlex) {
      runs.push_back({.name = policy, .policy = policy});
      continue;
    }
    for (int interval : options.intervals) {
      runs.push_back({.name = options.intervals.size() > 1 ? absl::StrCat(policy, "/", interval) : policy,
                      .policy = policy,
                      .interval = interval,
                      .history = options.history > 0 ? options.history : interval,
                      .solves_shares = options.solve_shares});
    }
  }
  std::set<std::string> names;
  for (const SimulationRun& run : runs) {
    if (!names.insert(run.name).second) {
      return absl::InvalidArgumentError(absl::StrCat("--policy, --interval: ", run.name, " is named twice"));
    }
  }
  return runs;
}

absl::StatusOr<Simulation> Simulate(const std::vector<algos::Load>& timeline, const SimulationOptions& options,
                                    const SimulationObserver& observer) {
  if (static_cast<size_t>(options.warmup) >= timeline.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--warmup=", options.warmup, " leaves nothing to score of ", timeline.size(), " windows"));
  }
  Simulation simulation;
  EVENKEEL_ASSIGN_OR_RETURN(simulation.runs, PlanRuns(options));
  const int num_layers = timeline.front().num_layers;
  for (SimulationRun& run : simulation.runs) {
    EVENKEEL_ASSIGN_OR_RETURN(const algos::Planner planner, PlannerOf(run, options, num_layers));
    algos::ReplayObserver of_run;
    if (observer.on_window) of_run.on_window = [&](int) { observer.on_window(run.name); };
    if (observer.on_map) of_run.on_map = [&](const algos::MapChange& change) { observer.on_map(run.name, change); };
    const algos::ReplayOptions replay{.shape = options.shape,
                                      .num_nodes = options.num_nodes,
                                      .solve_shares = run.solves_shares,
                                      .shares_windows = options.shares_windows,
                                      .rules = options.rules,
                                      .links = options.links};
    EVENKEEL_ASSIGN_OR_RETURN(run.result, algos::Replay(timeline, options.warmup, replay, planner, of_run));
    run.scores = algos::ScoresOf(run.result, options.warmup);
  }
  simulation.noise_floor = algos::NoiseFloor(timeline, options.shape.num_ranks);
  EVENKEEL_ASSIGN_OR_RETURN(simulation.bounds,
                            algos::BestPlacements(timeline, ProblemOf(options, num_layers), options.warmup));
  return simulation;
}

}  // namespace evenkeel::cli
