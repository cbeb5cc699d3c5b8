// SPDX-License-Identifier: Apache-2.0
//
// StoreWriter: a store on a thread of its own, so that no disk ever holds up the controller's strand.
//
// Threads:   SaveTerm, SaveOperation and SaveLoad from any; `done` is called on the writer's thread and must only post. Stop from
//            any other.
// Owns:      its thread; borrows the store, which outlives it and is touched by nobody else meanwhile.
// Order:     as asked for. A state of an operation that still waits is replaced by a newer one, in its place.
// Limits:    kWaitingMax waiting; what is beyond is refused (kResourceExhausted).
// Errors:    those of the store; kUnavailable after Stop began.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

#include "controller/core/event.h"
#include "controller/store.h"
#include "runtime/strand.h"

namespace evenkeel::controller {

class StoreWriter {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  static constexpr size_t kWaitingMax = 16384;

  explicit StoreWriter(Store& store);
  // Stops.
  ~StoreWriter();

  // Calls `done` once it is durable, or could not be made so.
  void SaveTerm(uint32_t term, Done done);
  // Likewise; never for a state that a newer one replaced while it waited.
  void SaveOperation(const OperationProgress& operation, Done done) ABSL_LOCKS_EXCLUDED(mutex_);

  // Calls `done` once the store has it or could not take it.
  void SaveLoad(std::shared_ptr<const LoadHistory> load, Done done);

  // Writes what waits, then ends. Repeating it does nothing.
  void Stop();

 private:
  struct Waiting {
    OperationProgress operation;
    Done done;
  };
  Waiting Take(const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_);

  Store& store_;
  absl::Mutex mutex_;
  absl::btree_map<std::string, Waiting> waiting_ ABSL_GUARDED_BY(mutex_);  // by operation
  runtime::Strand strand_;
};

}  // namespace evenkeel::controller
