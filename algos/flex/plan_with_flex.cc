// SPDX-License-Identifier: Apache-2.0
#include "algos/flex/plan_with_flex.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"

#include "algos/base/status_macros.h"

namespace evenkeel::algos {

namespace {

struct ChangedLayer {
  LayerId layer;
  LayerPlan plan;
};

// Requires: `problem` is valid but for its layers.
absl::StatusOr<std::vector<ChangedLayer>> ChangesOf(Flex flex, const Problem& problem) {
  EVENKEEL_ASSIGN_OR_RETURN(std::vector<Flex::Improvement> improvements, flex.ImproveBy(problem));
  std::vector<ChangedLayer> changes;
  for (Flex::Improvement& improvement : improvements) {
    Shares shares = flex.SharesFor(problem, improvement.layer, improvement.placement);
    changes.push_back({improvement.layer, {std::move(improvement.placement), std::move(shares)}});
  }
  return changes;
}

}  // namespace

absl::StatusOr<std::vector<LayerPlan>> PlanWithFlex(const Flex& flex, const Problem& problem) {
  return PlanWithFlex(flex, problem, 1, [](size_t count, const std::function<void(size_t)>& task) {
    for (size_t i = 0; i < count; ++i) task(i);
  });
}

absl::StatusOr<std::vector<LayerPlan>> PlanWithFlex(const Flex& flex, const Problem& problem, size_t num_slices,
                                                    const RunAll& run_all) {
  EVENKEEL_RETURN_IF_ERROR(Validate(problem));
  if (problem.current.empty()) return absl::InvalidArgumentError("flex: current: there is nothing to improve");
  const std::vector<LayerId> planned = PlannedLayers(problem);
  const size_t count = std::clamp(num_slices, size_t{1}, planned.size());
  Problem common = problem;
  common.episodes = {problem.episodes.back()};
  std::vector<std::optional<absl::StatusOr<std::vector<ChangedLayer>>>> slices(count);
  run_all(count, [&](size_t i) {
    Problem slice = common;
    slice.layers.assign(planned.begin() + static_cast<std::ptrdiff_t>(i * planned.size() / count),
                        planned.begin() + static_cast<std::ptrdiff_t>((i + 1) * planned.size() / count));
    slices[i] = ChangesOf(flex, slice);
  });
  std::vector<LayerPlan> plans = WithEvenShares(problem.current);
  for (auto& slice : slices) {
    EVENKEEL_RETURN_IF_ERROR(slice->status());
    for (ChangedLayer& change : **slice) plans[change.layer.idx()] = std::move(change.plan);
  }
  return plans;
}

}  // namespace evenkeel::algos
