// SPDX-License-Identifier: Apache-2.0
#include "algos/replay/planner.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "algos/policies/registry.h"

namespace evenkeel::algos {

absl::StatusOr<Planner> EveryWindows(CadenceOptions options) {
  if (options.interval < 1 || options.history < 0 || options.aligned_to < 0) {
    return absl::InvalidArgumentError(absl::StrCat("replay: plans every ", options.interval, " windows on ",
                                                   options.history, " from ", options.aligned_to, " on"));
  }
  if (options.history == 0) options.history = options.interval;
  EVENKEEL_ASSIGN_OR_RETURN(const NamedPolicy policy, FindPolicy(options.policy));
  return [options = std::move(options), policy](const Moment& moment) -> absl::StatusOr<LayerChanges> {
    if (moment.window == 0 || (moment.window - options.aligned_to) % options.interval != 0) return LayerChanges{};
    Problem problem = options.problem;
    const size_t history = std::min(static_cast<size_t>(options.history), moment.past.size());
    const auto recent = moment.past.last(history);
    problem.episodes.assign(recent.begin(), recent.end());
    problem.current.assign(moment.placements.begin(), moment.placements.end());
    EVENKEEL_ASSIGN_OR_RETURN(std::vector<LayerPlan> plans, policy.plan(problem, options.config));
    LayerChanges changes;
    for (LayerPlan& plan : plans) changes.emplace_back(std::move(plan));
    return changes;
  };
}

Planner NeverPlans() {
  return [](const Moment&) -> absl::StatusOr<LayerChanges> { return LayerChanges{}; };
}

}  // namespace evenkeel::algos
