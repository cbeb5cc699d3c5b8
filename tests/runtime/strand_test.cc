// SPDX-License-Identifier: Apache-2.0
#include "runtime/strand.h"

#include <pthread.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "catch2/catch.hpp"

#include "runtime/clock.h"

namespace evenkeel::runtime {
namespace {

constexpr absl::Duration kDeadline = absl::Seconds(20);

TEST_CASE("tasks of one poster run in the order posted", "[strand]") {
  Strand strand({.name = "order"});
  std::vector<int> seen;
  for (int i = 0; i < 1000; ++i) {
    REQUIRE(strand.Post([&seen, i] { seen.push_back(i); }).ok());
  }
  strand.Stop();
  REQUIRE(seen.size() == 1000);
  for (int i = 0; i < 1000; ++i) CHECK(seen[static_cast<size_t>(i)] == i);
}

TEST_CASE("tasks of many posters never overlap and none is lost", "[strand]") {
  Strand strand({.name = "many", .queue_capacity = 100000});
  int plain_counter = 0;  // no lock, no atomic: tsan would see a second thread
  std::vector<std::thread> posters;
  for (int i = 0; i < 8; ++i) {
    posters.emplace_back([&] {
      for (int k = 0; k < 1000; ++k) {
        if (!strand.Post([&plain_counter] { ++plain_counter; }).ok()) std::abort();
      }
    });
  }
  for (std::thread& poster : posters) poster.join();
  strand.Stop();
  CHECK(plain_counter == 8000);
}

TEST_CASE("a full queue refuses and names the strand, essential tasks are still taken", "[strand]") {
  Strand strand({.name = "narrow", .queue_capacity = 2});
  absl::Notification entered, release;
  REQUIRE(strand
              .Post([&] {
                entered.Notify();
                release.WaitForNotification();
              })
              .ok());
  entered.WaitForNotification();
  std::atomic<int> ran = 0;
  CHECK(strand.Post([&] { ++ran; }).ok());
  CHECK(strand.Post([&] { ++ran; }).ok());
  const absl::Status refused = strand.Post([&] { ran += 100; });
  CHECK(refused.code() == absl::StatusCode::kResourceExhausted);
  CHECK(refused.message().find("narrow") != std::string::npos);
  CHECK(strand.PostEssential([&] { ++ran; }).ok());
  release.Notify();
  strand.Stop();
  CHECK(ran == 3);
}

TEST_CASE("stop drains what was posted, refuses the rest, and may be repeated by several threads", "[strand]") {
  Strand strand({.name = "stop"});
  std::atomic<int> ran = 0;
  for (int i = 0; i < 100; ++i) CHECK(strand.Post([&] { ++ran; }).ok());
  std::thread other([&] { strand.Stop(); });
  strand.Stop();
  CHECK(ran == 100);
  other.join();
  strand.Stop();
  CHECK(strand.Post([&] { ++ran; }).code() == absl::StatusCode::kUnavailable);
  CHECK(strand.PostEssential([&] { ++ran; }).code() == absl::StatusCode::kUnavailable);
  CHECK(ran == 100);
}

TEST_CASE("a wake-up comes at its time, not before, and again when it moves", "[strand]") {
  Strand strand({.name = "timer"});
  const absl::Time start = MonotonicNow();
  absl::Time next = start + absl::Milliseconds(30);
  std::vector<absl::Time> woken;
  absl::Notification done;
  REQUIRE(strand
              .Post([&] {
                strand.AssertHeld();
                strand.SetTimer({.next_wakeup = [&] { return next; },
                                 .on_wakeup =
                                     [&] {
                                       woken.push_back(MonotonicNow());
                                       next += absl::Milliseconds(20);
                                       if (woken.size() == 3) {
                                         next = absl::InfiniteFuture();
                                         done.Notify();
                                       }
                                     }});
              })
              .ok());
  REQUIRE(done.WaitForNotificationWithTimeout(kDeadline));
  strand.Stop();
  REQUIRE(woken.size() == 3);
  CHECK(woken[0] >= start + absl::Milliseconds(30));
  CHECK(woken[1] >= start + absl::Milliseconds(50));
  CHECK(woken[2] >= start + absl::Milliseconds(70));
}

TEST_CASE("a task that brings the wake-up forward is heeded", "[strand]") {
  Strand strand({.name = "forward"});
  absl::Time next = absl::InfiniteFuture();
  absl::Notification woken;
  REQUIRE(strand
              .Post([&] {
                strand.AssertHeld();
                strand.SetTimer({.next_wakeup = [&] { return next; },
                                 .on_wakeup =
                                     [&] {
                                       next = absl::InfiniteFuture();
                                       woken.Notify();
                                     }});
              })
              .ok());
  REQUIRE(strand.Post([&] { next = MonotonicNow(); }).ok());
  CHECK(woken.WaitForNotificationWithTimeout(kDeadline));
}

TEST_CASE("a due wake-up is not starved by a full queue", "[strand]") {
  Strand strand({.name = "busy", .queue_capacity = 100000});
  absl::Time next = absl::InfinitePast();
  int ran = 0;
  int ran_at_wakeup = -1;
  absl::Notification posted;
  REQUIRE(strand
              .Post([&] {
                strand.AssertHeld();
                for (int i = 0; i < 10000; ++i) {
                  if (!strand.Post([&] { ++ran; }).ok()) std::abort();
                }
                strand.SetTimer({.next_wakeup = [&] { return next; },
                                 .on_wakeup =
                                     [&] {
                                       ran_at_wakeup = ran;
                                       next = absl::InfiniteFuture();
                                     }});
                posted.Notify();
              })
              .ok());
  posted.WaitForNotification();
  strand.Stop();
  CHECK(ran == 10000);
  CHECK(ran_at_wakeup >= 0);
  CHECK(ran_at_wakeup <= static_cast<int>(Strand::kBatchMax));
}

TEST_CASE("the thread carries the strand's name", "[strand]") {
  Strand strand({.name = "a-name-that-is-too-long"});
  std::string name;
  REQUIRE(strand
              .Post([&] {
                char buffer[16] = {};
                pthread_getname_np(pthread_self(), buffer, sizeof buffer);
                name = buffer;
              })
              .ok());
  strand.Stop();
  CHECK(name == "a-name-that-is-");
}

TEST_CASE("monotonic time never goes back and keeps pace with the wall clock", "[clock]") {
  absl::Time last = MonotonicNow();
  for (int i = 0; i < 10000; ++i) {
    const absl::Time now = MonotonicNow();
    REQUIRE(now >= last);
    last = now;
  }
  CHECK(absl::AbsDuration(absl::Now() - MonotonicNow()) < absl::Minutes(5));
}

}  // namespace
}  // namespace evenkeel::runtime
