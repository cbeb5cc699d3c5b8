// SPDX-License-Identifier: Apache-2.0
//
// WaitWitness: counts the library's calls that waited, as the kernel saw it.
//
// The library is not to wait for a lock or another process, and nothing in it can say that it does not. So the engine
// asks the kernel around its calls whether the thread gave up the processor by itself in between (ru_nvcsw). Being
// preempted is no such switch. A page fault that sleeps, for the lock of the address space or for a page, is one: a
// call that faulted is therefore counted apart. It may have waited all the same; but a call that waits does so again
// where its pages are there.
//
// Threads:   any. Sampling is a system call of the engine's, not of the library's.
#pragma once

#include <atomic>
#include <cstdint>

namespace evenkeel::engine {

class WaitWitness {
 public:
  // What `call`, which calls the library on this thread, returns.
  template <typename Call>
  auto Watch(Call&& call) {
    const Sample before = Now();
    const auto result = call();
    Judge(before, Now());
    return result;
  }

  uint64_t num_watched() const { return num_watched_.load(std::memory_order_relaxed); }
  // Without a page fault.
  uint64_t num_waited() const { return num_waited_.load(std::memory_order_relaxed); }
  uint64_t num_slept_in_faults() const { return num_slept_in_faults_.load(std::memory_order_relaxed); }

 private:
  // Of this thread, ever.
  struct Sample {
    int64_t num_switches = 0;  // voluntary
    int64_t num_faults = 0;
  };

  static Sample Now();
  void Judge(const Sample& before, const Sample& after);

  std::atomic<uint64_t> num_watched_ = 0;
  std::atomic<uint64_t> num_waited_ = 0;
  std::atomic<uint64_t> num_slept_in_faults_ = 0;
};

}  // namespace evenkeel::engine
