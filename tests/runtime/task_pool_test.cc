// SPDX-License-Identifier: Apache-2.0
#include "runtime/task_pool.h"

#include <thread>
#include <vector>

#include "absl/synchronization/barrier.h"
#include "catch2/catch.hpp"

namespace evenkeel::runtime {
namespace {

TEST_CASE("each call is made once, whatever the number of threads", "[task_pool]") {
  for (int num_threads : {1, 2, 3, 8}) {
    CAPTURE(num_threads);
    TaskPool pool({.name = "once", .num_threads = num_threads});
    CHECK(pool.num_threads() == num_threads);
    for (size_t count : {0u, 1u, 2u, 100u}) {
      std::vector<int> calls(count, 0);  // one writer each
      for (int round = 0; round < 20; ++round) pool.RunAll(count, [&](size_t i) { ++calls[i]; });
      CHECK(calls == std::vector<int>(count, 20));
    }
  }
}

TEST_CASE("calls run at the same time, on the caller's thread too", "[task_pool]") {
  TaskPool pool({.name = "together", .num_threads = 3});
  std::vector<std::thread::id> ids(3);
  // Comes together only if no thread makes two of the calls.
  auto* const barrier = new absl::Barrier(3);
  pool.RunAll(3, [&](size_t i) {
    ids[i] = std::this_thread::get_id();
    if (barrier->Block()) delete barrier;
  });
  CHECK(ids[0] != ids[1]);
  CHECK(ids[1] != ids[2]);
  CHECK(ids[0] != ids[2]);
  const bool took_part = ids[0] == std::this_thread::get_id() || ids[1] == std::this_thread::get_id() ||
                         ids[2] == std::this_thread::get_id();
  CHECK(took_part);
}

}  // namespace
}  // namespace evenkeel::runtime
