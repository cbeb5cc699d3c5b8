// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/compute_plan.h"

#include "algos/flex/plan_with_flex.h"
#include "algos/policies/registry.h"

namespace evenkeel::controller {

absl::StatusOr<std::vector<algos::LayerPlan>> RunPlan(const ComputePlan& plan, size_t num_slices,
                                                      const algos::RunAll& run_all) {
  if (plan.flex != nullptr) return algos::PlanWithFlex(*plan.flex, *plan.problem, num_slices, run_all);
  return algos::PlanInSlices(plan.policy, *plan.problem, plan.config, num_slices, run_all);
}

absl::StatusOr<std::vector<algos::LayerPlan>> RunPlan(const ComputePlan& plan) {
  if (plan.flex != nullptr) return algos::PlanWithFlex(*plan.flex, *plan.problem);
  return algos::PlanBy(plan.policy, *plan.problem, plan.config);
}

}  // namespace evenkeel::controller
