// SPDX-License-Identifier: Apache-2.0
//
// Conductor: the coordinator on its strand. It feeds it events with the time, and carries out its effects in
// their order; and tells watchers of operations. Nothing is done under a term before the store has it; operations are
// stored behind, and who asked for one learns of it when the store has it (WhenKept).
//
// Threads:   its strand alone (annotated), but for the constructor.
// Owns:      the coordinator, and the store's thread; borrows store and strand, which outlive it.
// Errors:    a term that cannot be stored in time, and a higher term, end the controller (Outlets::end). An operation
//            that cannot be stored is a problem that is told (store_problem) and tried again; the controller goes on.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "controller/core/coordinator.h"
#include "controller/core/event.h"
#include "controller/core/latency_counts.h"
#include "controller/keeper.h"
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

  Conductor(runtime::Strand& strand, CoordinatorSettings settings, Store& store, Outlets outlets,
            Keeper::Limits limits = {});

  // As strand_.AssertHeld(), for callers whose own name for the strand is another.
  void AssertHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK(strand_) { strand_.AssertHeld(); }

  void Step(const Event& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  // At NextWakeup.
  void Wake(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  absl::Time NextWakeup() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  const Coordinator& coordinator() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_) { return coordinator_; }

  // `group`, or the only one there is where it is empty.
  absl::StatusOr<std::string> ResolveGroup(const std::string& group) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // Checks and starts an operation, unless one of this id is known. Returns its id (made up where the request has
  // none). See Control.Rearrange for errors.
  absl::StatusOr<std::string> Rearrange(RearrangeRequested request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // Likewise. See Control.AdmitRank and DrainRank.
  absl::StatusOr<std::string> Admit(AdmitRequested request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  absl::StatusOr<std::string> Drain(DrainRequested request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // The operation of the pause, as it then is. See Control.Pause and Resume.
  absl::StatusOr<OperationProgress> Pause(PauseRequested request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  absl::StatusOr<OperationProgress> Resume(ResumeRequested request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // The operation as it then is. See Control.CancelOperation for errors.
  absl::StatusOr<OperationProgress> Cancel(const CancelRequested& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // Likewise, of what stands for a mode, for pins; those that were ended. See Control.SetMode, Pin and Unpin.
  absl::StatusOr<OperationProgress> SetMode(SetModeRequested request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  absl::StatusOr<OperationProgress> Pin(PinRequested request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  absl::StatusOr<std::vector<OperationProgress>> Unpin(UnpinRequested request, bool all)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // Placements of named layers, or those that a rollback goes back to.
  using MapTarget = std::variant<std::vector<std::pair<LayerId, algos::Placement>>, RollbackTarget>;
  // Starts the rearrangement to them, as Rearrange; its policy, layers and placements are chosen here. See
  // Control.SetMap and Rollback.
  absl::StatusOr<std::string> GoTo(const MapTarget& target, RearrangeRequested request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  absl::StatusOr<MapDiff> Diff(const std::string& group, const MapTarget& target) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // Called at every change of any operation, until Unwatch.
  WatcherId Watch(OperationWatcher watcher) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void Unwatch(WatcherId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // Calls `kept` once the store has the operation as it is now; its errors and kDeadlineExceeded say that it may not.
  void WhenKept(const std::string& operation_id, Keeper::Kept kept) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // What is wrong with the store, for people; empty: nothing.
  const std::string& store_problem() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  uint64_t num_store_failures() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // How long the coordinator took for each event, and operations that ended, by group, cause and state.
  const LatencyCounts& step_times() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_) { return step_times_; }
  using Ended = std::tuple<std::string, Cause, OperationState>;
  const absl::btree_map<Ended, uint64_t>& ended() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_) { return ended_counts_; }

  // Stores what waits. After the strand's own end; repeating it does nothing.
  void Stop() { keeper_.Stop(); }

 private:
  absl::StatusOr<NamedPlacements> Resolve(const std::string& group, const MapTarget& target) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  // Not OK while nothing may be started.
  absl::Status CheckLeads() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void CarryOutWaiting() ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void CarryOut(const Effect& effect) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void OnTermKept(uint32_t term, absl::Status kept) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void Keep(const OperationProgress& operation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void End(absl::Status why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  runtime::Strand& strand_;
  const Outlets outlets_;

  Coordinator coordinator_ ABSL_GUARDED_BY(strand_);
  absl::btree_map<WatcherId, OperationWatcher> watchers_ ABSL_GUARDED_BY(strand_);
  WatcherId next_watcher_ ABSL_GUARDED_BY(strand_) = 1;
  std::deque<Effect> effects_ ABSL_GUARDED_BY(strand_);  // not carried out yet
  bool keeping_term_ ABSL_GUARDED_BY(strand_) = false;   // they wait for it
  Keeper keeper_;
  LatencyCounts step_times_ ABSL_GUARDED_BY(strand_);
  absl::btree_map<Ended, uint64_t> ended_counts_ ABSL_GUARDED_BY(strand_);
  bool ended_ ABSL_GUARDED_BY(strand_) = false;
};

}  // namespace evenkeel::controller
