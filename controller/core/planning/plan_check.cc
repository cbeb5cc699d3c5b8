// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/plan_check.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace evenkeel::controller {

namespace {

bool IsShare(double share) { return std::isfinite(share) && share >= 0; }

}  // namespace

// The layers that were not to be planned are as they were, dead experts included.
absl::Status CheckPlan(const GroupState& group, const algos::Problem& problem, const PlanComputed& plan) {
  if (!plan.plans.ok()) return plan.plans.status();
  if (plan.plans->size() != static_cast<size_t>(group.info.num_layers)) {
    return absl::InternalError(absl::StrCat("plan of ", plan.plans->size(), " layers for ", group.info.num_layers));
  }
  for (LayerId layer : algos::PlannedLayers(problem)) {
    const algos::Placement& placement = (*plan.plans)[layer.idx()].placement;
    if (const absl::Status status = algos::Validate(placement, group.info.shape); !status.ok()) return status;
    const algos::Shares& shares = (*plan.plans)[layer.idx()].shares;
    const size_t num_replicas = algos::Invert(placement, group.info.shape.num_experts).slots.size();
    if (shares.empty() || (shares.size() == num_replicas && std::ranges::all_of(shares, IsShare))) continue;
    return absl::InternalError(absl::StrCat("plan of layer ", layer.value(), ": its ", shares.size(),
                                            " shares do not fit its ", num_replicas, " replicas"));
  }
  return absl::OkStatus();
}

}  // namespace evenkeel::controller
