// SPDX-License-Identifier: Apache-2.0
//
// Strand: one thread that runs posted tasks one after the other. State that only its tasks touch needs no
// lock: declare it ABSL_GUARDED_BY(strand_), the methods that touch it
// ABSL_EXCLUSIVE_LOCKS_REQUIRED(strand_), and begin every posted lambda with strand_.AssertHeld().
//
//   strand_.Post([this] {
//     strand_.AssertHeld();
//     HandleSomething();
//   });
//
// A machine with NextWakeup() gets its ticks through SetTimer: the strand asks for the next wake-up after
// each batch of tasks, and calls on_wakeup when that time (of MonotonicNow) is reached.
//
// Threads:   Post and PostEssential from any; SetTimer and AssertHeld on the strand; Stop from any but the
//            strand.
// Owns:      its thread, named in ps and gdb, from construction to Stop.
// Order:     tasks run in the order posted. A due wake-up waits for at most kBatchMax tasks.
// Limits:    Options::queue_capacity waiting tasks; beyond it Post refuses (kResourceExhausted).
// Errors:    Post returns kUnavailable after Stop began; the task was then dropped unrun.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace evenkeel::runtime {

class ABSL_LOCKABLE Strand {
 public:
  using Task = absl::AnyInvocable<void()>;

  struct Options {
    std::string name;               // of the thread; 15 characters at most are shown
    size_t queue_capacity = 16384;  // > 0
  };
  struct Timer {
    absl::AnyInvocable<absl::Time()> next_wakeup;  // InfiniteFuture: none
    absl::AnyInvocable<void()> on_wakeup;          // must move next_wakeup on, or is called again at once
  };

  static constexpr size_t kBatchMax = 64;

  // Starts the thread.
  explicit Strand(Options options);
  // Stops.
  ~Strand();
  Strand(const Strand&) = delete;
  Strand& operator=(const Strand&) = delete;

  absl::Status Post(Task task) ABSL_LOCKS_EXCLUDED(mutex_);

  // As Post, but the capacity does not count. For notices that must not be lost and of which there can be
  // only one for each of something that is bounded itself (the end of a stream, an answer).
  absl::Status PostEssential(Task task) ABSL_LOCKS_EXCLUDED(mutex_);

  // Tasks that were refused as the queue was full, so far.
  uint64_t num_refused() const { return num_refused_; }

  // Replaces the timer; {} removes it. Not from within the timer's own calls.
  void SetTimer(Timer timer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(this);

  // Ends the program if called from another thread than the strand's.
  void AssertHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK();

  // Refuses further tasks, runs those already posted, then joins the thread. Repeating it does nothing.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_, stop_mutex_);

 private:
  absl::Status Push(Task task, size_t capacity) ABSL_LOCKS_EXCLUDED(mutex_);
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || !tasks_.empty(); }
  void Run();
  absl::Time NextWakeup() ABSL_EXCLUSIVE_LOCKS_REQUIRED(this);

  // Constant after construction.
  const Options options_;
  // Used on the strand alone.
  Timer timer_ ABSL_GUARDED_BY(this);

  absl::Mutex mutex_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<uint64_t> num_refused_ = 0;

  // Held while joining, so that each of several callers of Stop returns after the end of the thread.
  absl::Mutex stop_mutex_;
  std::thread thread_;  // last: Run uses all of the above
};

}  // namespace evenkeel::runtime
