// SPDX-License-Identifier: Apache-2.0
#include "algos/flex/flex_policy.h"

#include <algorithm>
#include <utility>

#include "algos/base/status_macros.h"
#include "algos/flex/flex.h"
#include "algos/policies/greedy.h"
#include "algos/policies/repair/layer_costs.h"
#include "algos/policies/repair/repair.h"
#include "algos/policies/repair/secure.h"

namespace evenkeel::algos {

namespace {

// A fresh start protects the hottest experts first.
void Secure(Problem& problem) {
  const Load& load = problem.episodes.back();
  for (LayerId layer : PlannedLayers(problem)) {
    LayerCosts costs(problem, load.layer(layer));
    Placement& placement = problem.current[layer.idx()];
    BlankDeadRanks(problem, placement);
    costs.Reset(placement);
    RepairLayer(problem, layer, costs);
    SecureLayer(problem, layer, {}, costs);
    placement = costs.placement();
  }
}

// problem.current becomes what Flex makes of it.
absl::Status Improve(Flex& flex, Problem& problem) {
  EVENKEEL_ASSIGN_OR_RETURN(std::vector<Flex::Improvement> improvements, flex.ImproveBy(problem));
  for (Flex::Improvement& improvement : improvements) {
    problem.current[improvement.layer.idx()] = std::move(improvement.placement);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<FlexOptions> FlexOptionsOf(const PolicyConfig& config) {
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<double> values, ReadOptions("flex", kFlexOptions, config));
  return FlexOptions{.gain_min = values[0],
                     .weight_now = values[1],
                     .exaggeration = values[2],
                     .num_episodes_max = static_cast<int>(values[3])};
}

absl::StatusOr<std::vector<LayerPlan>> FlexPolicy(const Problem& problem, const PolicyConfig& config) {
  EVENKEEL_ASSIGN_OR_RETURN(FlexOptions options, FlexOptionsOf(config));
  EVENKEEL_RETURN_IF_ERROR(Validate(problem));
  const int num_episodes = static_cast<int>(problem.episodes.size());
  options.windows_per_block = std::clamp(num_episodes / options.num_episodes_max, 1, 10);
  Flex flex(problem.shape, problem.num_layers, options);
  for (const Load& episode : problem.episodes) flex.Observe(episode);

  Problem from = problem;
  from.episodes = {TotalLoad(problem)};
  const bool is_new = problem.current.empty();
  if (is_new) {
    EVENKEEL_ASSIGN_OR_RETURN(from.current, PlanGreedy(problem));
    EVENKEEL_RETURN_IF_ERROR(ValidateRoomForPins(problem));
    if (problem.survive.any()) Secure(from);
  }
  EVENKEEL_RETURN_IF_ERROR(Improve(flex, from));
  if (is_new) {
    // Searches end where no few moves help; another start may end better.
    Problem other = from;
    other.current.assign(from.current.size(), DefaultPlacement(problem.shape));
    if (problem.survive.any()) Secure(other);
    EVENKEEL_RETURN_IF_ERROR(Improve(flex, other));
    for (LayerId layer : PlannedLayers(problem)) {
      Placement& kept = from.current[layer.idx()];
      Placement& rival = other.current[layer.idx()];
      if (flex.Measure(from, layer, rival) < flex.Measure(from, layer, kept)) kept = std::move(rival);
    }
  }
  std::vector<LayerPlan> plans = WithEvenShares(from.current);
  for (LayerId layer : PlannedLayers(problem)) {
    LayerPlan& plan = plans[layer.idx()];
    plan.shares = flex.SharesFor(from, layer, plan.placement);
  }
  return plans;
}

}  // namespace evenkeel::algos
