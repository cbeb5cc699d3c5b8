// SPDX-License-Identifier: Apache-2.0
#include "controller/planner.h"

#include <memory>
#include <utility>

#include "algos/policies/registry.h"

namespace evenkeel::controller {

Planner::Planner() : strand_({.name = "planner", .queue_capacity = kPlansMax}) {}

Planner::~Planner() { Stop(); }

void Planner::Compute(ComputePlan plan, Done done) {
  const uint64_t plan_id = plan.plan_id;
  auto shared_done = std::make_shared<Done>(std::move(done));  // for the task or for its refusal
  const absl::Status posted = strand_.Post([this, plan = std::move(plan), shared_done]() mutable {
    if (stopping_) {
      (*shared_done)({plan.plan_id, absl::UnavailableError("compute a plan: the controller ends")});
      return;
    }
    (*shared_done)({plan.plan_id, algos::PlanBy(plan.policy, *plan.problem, plan.config)});
  });
  if (!posted.ok()) (*shared_done)({plan_id, posted});
}

void Planner::Stop() {
  stopping_ = true;
  strand_.Stop();
}

}  // namespace evenkeel::controller
