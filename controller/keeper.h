// SPDX-License-Identifier: Apache-2.0
//
// Keeper: which operations the store has in their newest state, and who waits for that.
//
// A state that could not be stored is tried again every kRetry with what the operation is by then; nothing is given up.
//
// Threads:   its strand alone (annotated), but for the constructor and Stop.
// Owns:      the thread of the store; borrows store and strand, which outlive it.
// Limits:    one record for each operation that is not stored yet.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

#include "controller/core/event.h"
#include "controller/store.h"
#include "controller/store_writer.h"
#include "runtime/strand.h"

namespace evenkeel::controller {

class Keeper {
 public:
  using Kept = std::function<void(absl::Status)>;

  struct Limits {
    absl::Duration stalled_after = absl::Seconds(5);  // a save under way for so long is a problem
    absl::Duration wait_max = absl::Seconds(10);      // of those who wait for an operation
    absl::Duration term_wait_max = absl::Seconds(30);
    absl::Duration retry = absl::Seconds(1);
  };

  Keeper(runtime::Strand& strand, Store& store, const Limits& limits);

  void AssertHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK(strand_) { strand_.AssertHeld(); }

  // `kept` is called on the strand, later, at the latest after term_wait_max with kDeadlineExceeded: the term may then
  // be stored or not.
  void KeepTerm(uint32_t term, Kept kept) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  void Keep(const OperationProgress& operation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // What is not stored is not tried again: there will be more. While one of the group is on its way to the store, it
  // does not get another.
  void KeepLoad(std::shared_ptr<const LoadHistory> load) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // Calls `kept` once the newest state given of the operation is stored, at once where it is; with the store's error
  // where it could not be, with kDeadlineExceeded after wait_max.
  void WhenKept(const std::string& operation_id, Kept kept) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  void Wake(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  absl::Time NextWakeup() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  // What is wrong with the store, for people; empty: nothing.
  const std::string& problem() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_) { return problem_; }
  uint64_t num_failures() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_) { return num_failures_; }

  // Stores what waits, then ends the thread. After the strand's own end. Repeating it does nothing.
  void Stop();

 private:
  struct Waiter {
    uint64_t version = 0;  // that suffices
    absl::Time deadline;
    Kept kept;
  };
  struct Unsaved {
    OperationProgress newest;
    uint64_t version = 0;                       // of `newest`
    absl::Time since;                           // the store has not answered; of the oldest
    absl::Time retry = absl::InfiniteFuture();  // after a failure
    std::vector<Waiter> waiters;
  };

  void Save(Unsaved& unsaved) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void OnSaved(const std::string& id, uint64_t version, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);
  void SetProblem(std::string problem) ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_);

  runtime::Strand& strand_;
  const Limits limits_;
  absl::btree_map<std::string, Unsaved> unsaved_ ABSL_GUARDED_BY(strand_);
  std::vector<Waiter> term_waiters_ ABSL_GUARDED_BY(strand_);  // `version` is the term
  std::string problem_ ABSL_GUARDED_BY(strand_);
  absl::btree_set<std::string> loads_under_way_ ABSL_GUARDED_BY(strand_);  // by group
  uint64_t num_failures_ ABSL_GUARDED_BY(strand_) = 0;
  StoreWriter writer_;
};

}  // namespace evenkeel::controller
