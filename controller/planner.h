// SPDX-License-Identifier: Apache-2.0
//
// Planner: runs policies off the controller's strand, one plan at a time, its layers on several threads. Plans do not
// depend on how many.
//
// Threads:   Compute from any; `done` is called on the planner's own thread and must only post.
// Limits:    kPlansMax waiting plans; a further one is answered at once with kResourceExhausted.
#pragma once

#include <atomic>
#include <cstddef>

#include "absl/functional/any_invocable.h"

#include "controller/core/event.h"
#include "runtime/strand.h"
#include "runtime/task_pool.h"

namespace evenkeel::controller {

class Planner {
 public:
  using Done = absl::AnyInvocable<void(PlanComputed)>;

  static constexpr size_t kPlansMax = 1024;
  static constexpr int kThreadsMax = 8;

  // As many threads as processors, kThreadsMax at most.
  Planner();
  explicit Planner(int num_threads);
  // Stops.
  ~Planner();

  // Calls `done` exactly once, with an error for an unknown policy or after Stop.
  void Compute(ComputePlan plan, Done done);

  // Finishes the plan at work; those waiting are answered with kUnavailable. Repeating it does nothing.
  void Stop();

 private:
  std::atomic<bool> stopping_ = false;
  runtime::TaskPool pool_;  // used on the strand alone
  runtime::Strand strand_;
};

}  // namespace evenkeel::controller
