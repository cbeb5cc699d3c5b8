// SPDX-License-Identifier: Apache-2.0
//
// Conductor: the coordinator on its strand. It feeds it events with the time, and carries out its effects in
// their order: stores, then sends; and tells watchers of operations.
//
// Threads:   its strand alone (annotated), but for the constructor.
// Owns:      the coordinator; borrows store and strand, which outlive it.
// Errors:    a term that cannot be stored, and a higher term, end the controller (Outlets::end). An operation
//            that cannot be stored is logged and counted, and the controller goes on.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "controller/core/coordinator.h"
#include "controller/core/event.h"
#include "controller/store.h"
#include "runtime/strand.h"

namespace evenkeel::controller {

class Conductor {
 public:
  // Called on the strand; none may call back into the conductor.
  struct Outlets {
    std::function<void(SessionId, const SharedMessage&)> send;
    std::function<void(SessionId)> close;
    std::function<void(ComputePlan)> plan;  // to be answered by Step(PlanComputed)
    std::function<void(absl::Status)> end;  // the controller cannot go on, and why; once
  };
  using OperationWatcher = std::function<void(const OperationProgress&)>;
  using WatcherId = uint64_t;

  // Adds what the store knows of earlier controllers: their term and operations.
  static absl::StatusOr<CoordinatorSettings> Recall(CoordinatorSettings settings, Store& store);

  Conductor(runtime::Strand& strand, CoordinatorSettings settings, Store& store, Outlets outlets);

  // As strand_.AssertHeld(), for callers whose own name for the strand is another.
  void AssertHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK(strand_) { strand_.AssertHeld(); }

  void Step(const Event& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  absl::Time NextWakeup() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  const Coordinator& coordinator() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_) { return coordinator_; }

  // `group`, or the only one there is where it is empty.
  absl::StatusOr<std::string> ResolveGroup(const std::string& group) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // Checks and starts an operation, unless one of this id is known. Returns its id (made up where the request has
  // none). See Control.Rearrange for errors.
  absl::StatusOr<std::string> Rearrange(RearrangeRequested request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // Called at every change of any operation, until Unwatch.
  WatcherId Watch(OperationWatcher watcher) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void Unwatch(WatcherId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  uint64_t num_store_failures() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_) { return num_store_failures_; }

 private:
  void CarryOut(const Effect& effect) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void Keep(const OperationProgress& operation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void End(absl::Status why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  runtime::Strand& strand_;
  Store& store_;
  const Outlets outlets_;

  Coordinator coordinator_ ABSL_GUARDED_BY(strand_);
  absl::btree_map<WatcherId, OperationWatcher> watchers_ ABSL_GUARDED_BY(strand_);
  WatcherId next_watcher_ ABSL_GUARDED_BY(strand_) = 1;
  uint64_t num_store_failures_ ABSL_GUARDED_BY(strand_) = 0;
  bool store_failing_ ABSL_GUARDED_BY(strand_) = false;
  bool ended_ ABSL_GUARDED_BY(strand_) = false;
};

}  // namespace evenkeel::controller
