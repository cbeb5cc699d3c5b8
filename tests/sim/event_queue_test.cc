// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/event_queue.h"

#include <catch2/catch.hpp>
#include <vector>

namespace evenkeel::sim {
namespace {

TEST_CASE("actions run by time, those of one time in the order of posting", "[event_queue]") {
  EventQueue queue;
  std::vector<int> ran;
  queue.After(absl::Seconds(2), [&] { ran.push_back(3); });
  queue.After(absl::Seconds(1), [&] { ran.push_back(1); });
  queue.After(absl::Seconds(1), [&] { ran.push_back(2); });

  while (queue.RunNext(absl::InfiniteFuture())) {
  }

  CHECK(ran == std::vector<int>{1, 2, 3});
  CHECK(queue.num_run() == 3);
}

TEST_CASE("an action may post more, also for now", "[event_queue]") {
  EventQueue queue;
  std::vector<int> ran;
  queue.After(absl::Seconds(1), [&] {
    ran.push_back(1);
    queue.At(absl::UnixEpoch(), [&] { ran.push_back(2); });  // in the past: now
  });
  while (queue.RunNext(absl::UnixEpoch() + absl::Seconds(5))) {
  }
  CHECK(ran == std::vector<int>{1, 2});
  CHECK(queue.now() == absl::UnixEpoch() + absl::Seconds(5));
}

TEST_CASE("nothing runs after the end asked for", "[event_queue]") {
  EventQueue queue;
  bool ran = false;
  queue.After(absl::Seconds(2), [&] { ran = true; });
  CHECK_FALSE(queue.RunNext(absl::UnixEpoch() + absl::Seconds(1)));
  CHECK_FALSE(ran);
  CHECK(queue.RunNext(absl::UnixEpoch() + absl::Seconds(2)));
  CHECK(ran);
}

}  // namespace
}  // namespace evenkeel::sim
