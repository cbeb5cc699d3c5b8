// SPDX-License-Identifier: Apache-2.0
//
// TaskPool: a few threads that share the calls of one computation, for results that do not depend on who makes which.
//
// Threads:   RunAll from one thread at a time, which makes calls itself too. The calls run at the same time.
// Owns:      num_threads - 1 threads, named in ps and gdb, from construction to destruction.
// Order:     calls begin in the order of their indices.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace evenkeel::runtime {

class TaskPool {
 public:
  struct Options {
    std::string name;     // of the threads; 15 characters at most are shown
    int num_threads = 1;  // > 0, with the caller's
  };

  explicit TaskPool(const Options& options);
  // Joins. Requires: no RunAll under way.
  ~TaskPool();
  TaskPool(const TaskPool&) = delete;
  TaskPool& operator=(const TaskPool&) = delete;

  // Calls task(0) .. task(count - 1) and returns when all of them have returned.
  void RunAll(size_t count, const std::function<void(size_t)>& task) ABSL_LOCKS_EXCLUDED(mutex_);

  int num_threads() const { return static_cast<int>(threads_.size()) + 1; }

 private:
  void Work() ABSL_LOCKS_EXCLUDED(mutex_);
  // Makes one call if one is left; returns whether there was one.
  bool WorkOnce() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || next_ < count_; }
  bool IsDone() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return num_done_ == count_; }

  absl::Mutex mutex_;
  const std::function<void(size_t)>* task_ ABSL_GUARDED_BY(mutex_) = nullptr;  // of the RunAll under way
  size_t count_ ABSL_GUARDED_BY(mutex_) = 0, next_ ABSL_GUARDED_BY(mutex_) = 0, num_done_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;  // last: Work uses all of the above
};

}  // namespace evenkeel::runtime
