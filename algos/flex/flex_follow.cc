// SPDX-License-Identifier: Apache-2.0
#include "algos/flex/flex_follow.h"

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "algos/base/status_macros.h"

namespace evenkeel::algos {

namespace {

struct Follower {
  Flex flex;
  Problem problem;
  size_t num_told = 0;

  absl::StatusOr<LayerChanges> Plan(const Moment& moment) {
    for (; num_told < moment.past.size(); ++num_told) flex.Observe(moment.past[num_told]);
    if (flex.num_observed() == 0) return LayerChanges{};
    problem.episodes.assign(1, moment.past.back());
    problem.current.assign(moment.placements.begin(), moment.placements.end());
    EVENKEEL_ASSIGN_OR_RETURN(std::vector<Flex::Improvement> improvements, flex.Improve(problem));
    std::vector<Placement> placements = problem.current;
    for (Flex::Improvement& improvement : improvements) {
      placements[improvement.layer.idx()] = std::move(improvement.placement);
    }
    LayerChanges changes;
    for (size_t layer = 0; layer < placements.size(); ++layer) {
      LayerPlan plan{.placement = std::move(placements[layer])};
      plan.shares = flex.SharesFor(problem, LayerId(static_cast<int32_t>(layer)), plan.placement);
      changes.emplace_back(std::move(plan));
    }
    return changes;
  }
};

}  // namespace

absl::StatusOr<Planner> FollowWithFlex(const FlexOptions& options, Problem problem) {
  EVENKEEL_RETURN_IF_ERROR(Validate(problem.shape));
  if (problem.num_layers < 1) return absl::InvalidArgumentError("flex: there are no layers");
  Flex flex(problem.shape, problem.num_layers, options);
  auto follower = std::make_shared<Follower>(Follower{.flex = std::move(flex), .problem = std::move(problem)});
  return [follower](const Moment& moment) { return follower->Plan(moment); };
}

}  // namespace evenkeel::algos
