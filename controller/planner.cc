// SPDX-License-Identifier: Apache-2.0
#include "controller/planner.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <thread>
#include <utility>

#include "controller/core/planning/compute_plan.h"

namespace evenkeel::controller {

namespace {

int NumThreads() {
  const int num_processors = static_cast<int>(std::thread::hardware_concurrency());  // 0: unknown
  return std::clamp(num_processors, 1, Planner::kThreadsMax);
}

}  // namespace

Planner::Planner() : Planner(NumThreads()) {}

Planner::Planner(int num_threads)
    : pool_({.name = "planner", .num_threads = num_threads}),
      strand_({.name = "planner", .queue_capacity = kPlansMax}) {}

Planner::~Planner() { Stop(); }

void Planner::Compute(ComputePlan plan, Done done) {
  const uint64_t plan_id = plan.plan_id;
  auto shared_done = std::make_shared<Done>(std::move(done));  // for the task or for its refusal
  const absl::Status posted = strand_.Post([this, plan = std::move(plan), shared_done]() mutable {
    if (stopping_) {
      (*shared_done)({plan.plan_id, absl::UnavailableError("compute a plan: the controller ends")});
      return;
    }
    const size_t num_slices = static_cast<size_t>(pool_.num_threads());
    const auto run_all = [this](size_t count, const std::function<void(size_t)>& task) { pool_.RunAll(count, task); };
    (*shared_done)({plan.plan_id, RunPlan(plan, num_slices, run_all)});
  });
  if (!posted.ok()) (*shared_done)({plan_id, posted});
}

void Planner::Stop() {
  stopping_ = true;
  strand_.Stop();
}

}  // namespace evenkeel::controller
