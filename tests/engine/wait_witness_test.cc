// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/wait_witness.h"

#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "catch2/catch.hpp"

namespace evenkeel::engine {
namespace {

// A lock that somebody else holds until the thread that makes the object sleeps, waiting for it.
class PlantedLock {
 public:
  PlantedLock() : waiter_(gettid()) {
    holder_ = std::thread([this] { Hold(); });
    while (!held_) poll(nullptr, 0, 1);
  }
  ~PlantedLock() { holder_.join(); }

  // Waits.
  int Take() {
    about_to_wait_ = true;
    absl::MutexLock lock(&mutex_);
    return 1;
  }

 private:
  void Hold() {
    absl::MutexLock lock(&mutex_);
    held_ = true;
    while (!about_to_wait_) poll(nullptr, 0, 1);
    while (!WaiterSleeps()) poll(nullptr, 0, 1);
  }
  bool WaiterSleeps() const {
    std::ifstream stat(absl::StrCat("/proc/self/task/", waiter_, "/stat"));
    const std::string text{std::istreambuf_iterator<char>(stat), std::istreambuf_iterator<char>()};
    const size_t name_end = text.rfind(')');
    return name_end != std::string::npos && text.size() > name_end + 2 && text[name_end + 2] == 'S';
  }

  const pid_t waiter_;
  absl::Mutex mutex_;
  std::atomic<bool> held_ = false;
  std::atomic<bool> about_to_wait_ = false;
  std::thread holder_;
};

TEST_CASE("a call that waits for a lock is counted", "[wait_witness]") {
  WaitWitness witness;
  for (uint64_t round = 1; round <= 3; ++round) {
    PlantedLock lock;
    const int result = witness.Watch([&] { return lock.Take(); });
    CHECK(result == 1);
    // The first waits may also make pages that they need.
    CHECK(witness.num_waited() + witness.num_slept_in_faults() == round);
  }
  CHECK(witness.num_waited() >= 1);
  CHECK(witness.num_watched() == 3);
}

TEST_CASE("a call that is preempted has not waited", "[wait_witness]") {
  std::atomic<bool> stop = false;
  std::vector<std::thread> rivals;
  for (unsigned i = 0; i < 2 * std::thread::hardware_concurrency(); ++i) {
    rivals.emplace_back([&stop] {
      while (!stop) {
      }
    });
  }
  WaitWitness witness;
  for (int round = 0; round < 20; ++round) {
    witness.Watch([] {
      volatile int x = 0;
      for (int i = 0; i < 10'000'000; ++i) x = i;
      return x;
    });
  }
  stop = true;
  for (std::thread& rival : rivals) rival.join();
  CHECK(witness.num_watched() == 20);
  CHECK(witness.num_waited() == 0);
}

TEST_CASE("a call that both faulted and slept is counted apart", "[wait_witness]") {
  WaitWitness witness;
  PlantedLock lock;
  constexpr size_t kBytes = 1 << 16;
  void* fresh = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(fresh != MAP_FAILED);
  witness.Watch([&] {
    *static_cast<volatile char*>(fresh) = 1;
    return lock.Take();
  });
  munmap(fresh, kBytes);
  CHECK(witness.num_waited() == 0);
  CHECK(witness.num_slept_in_faults() == 1);
}

}  // namespace
}  // namespace evenkeel::engine
