// SPDX-License-Identifier: Apache-2.0
//
// Step times are watched, and what makes them worse is found out.
#include "controller/core/planning/guard.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/base/rng.h"
#include "controller/core/planning/step_window.h"

namespace evenkeel::controller {
namespace {

constexpr absl::Duration kMs = absl::Milliseconds(1);
const absl::Time kStart = absl::FromUnixSeconds(1'700'000'000);

// Ten steps a second of `time` each, of `tokens` each, from `from` on for `length`.
void Feed(Guard& guard, absl::Time from, absl::Duration length, absl::Duration time, uint64_t tokens = 100) {
  for (absl::Time now = from; now < from + length; now += 100 * kMs) {
    guard.NoteSteps(now, time, 1);
    guard.NoteTokens(now, tokens);
  }
}

GuardSettings Budget(absl::Duration most) {
  GuardSettings settings;
  settings.step_time_p99_max = most;
  return settings;
}

GuardSettings Judges(double slowdown) {
  GuardSettings settings;
  settings.slowdown_max = slowdown;
  return settings;
}

}  // namespace

TEST_CASE("quantiles of a window are exact to three percent, whatever the times", "[guard]") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    StepWindow window(absl::Seconds(10));
    std::vector<int64_t> times;
    for (int i = 0; i < 3000; ++i) {
      const auto ns = static_cast<int64_t>(rng.Next() >> (24 + rng.Below(38)));
      const auto num = static_cast<int64_t>(1 + rng.Below(3));
      window.AddSteps(kStart + i * kMs, absl::Nanoseconds(ns), num);
      if (ns > 0) times.insert(times.end(), static_cast<size_t>(num), ns);
    }
    std::ranges::sort(times);
    const StepWindow::Look look = window.At(kStart + 3000 * kMs);
    REQUIRE(look.num_steps == static_cast<int64_t>(times.size()));
    const auto exact = [&](size_t percent) {
      return static_cast<double>(times[(times.size() * percent + 99) / 100 - 1]);
    };
    const double p50 = absl::ToDoubleNanoseconds(look.p50), p99 = absl::ToDoubleNanoseconds(look.p99);
    CHECK(p50 >= exact(50));
    CHECK(p50 <= exact(50) * (1 + 1.0 / 32) + 1);
    CHECK(p99 >= exact(99));
    CHECK(p99 <= exact(99) * (1 + 1.0 / 32) + 1);
  }
}

TEST_CASE("a window forgets what is older than it", "[guard]") {
  StepWindow window(absl::Seconds(10));
  window.AddSteps(kStart, 50 * kMs, 100);
  window.AddTokens(kStart, 5000);
  CHECK(window.At(kStart + absl::Seconds(5)).num_steps == 100);
  CHECK(window.At(kStart + absl::Seconds(5)).tokens_per_step == 50);
  window.AddSteps(kStart + absl::Seconds(11), 20 * kMs, 7);
  const StepWindow::Look look = window.At(kStart + absl::Seconds(11));
  CHECK(look.num_steps == 7);
  CHECK(look.tokens_per_step == 0);
  CHECK(window.At(kStart + absl::Hours(1)).num_steps == 0);
}

TEST_CASE("moves slow down near the budget, stop above it, and go on slowly where they are not the cause", "[guard]") {
  Guard guard(Budget(25 * kMs));
  Feed(guard, kStart, absl::Seconds(10), 20 * kMs);
  absl::Time now = kStart + absl::Seconds(10);
  guard.Look(now, true);
  CHECK(guard.pace() == MovePace::kFree);
  CHECK(guard.reason().empty());
  Feed(guard, now, absl::Seconds(10), 24 * kMs);
  guard.Look(now += absl::Seconds(10), true);
  CHECK(guard.pace() == MovePace::kSlow);
  Feed(guard, now, absl::Seconds(10), 30 * kMs);
  guard.Look(now += absl::Seconds(10), true);
  CHECK(guard.pace() == MovePace::kPaused);
  CHECK(guard.reason().find("above the budget of 25.00 ms: no wave begins") != std::string::npos);
  // The last wave ended; without moves the engines are no faster.
  for (int i = 0; i < 3; ++i) {
    Feed(guard, now, absl::Seconds(10), 30 * kMs);
    guard.Look(now += absl::Seconds(10), false);
    CHECK(guard.pace() == (i == 0 ? MovePace::kPaused : MovePace::kSlow));
  }
  Feed(guard, now, absl::Seconds(10), 20 * kMs);
  guard.Look(now + absl::Seconds(10), false);
  CHECK(guard.pace() == MovePace::kFree);
}

TEST_CASE("of few steps nothing is said", "[guard]") {
  Guard guard(Budget(kMs));
  Feed(guard, kStart, absl::Seconds(1), 30 * kMs);
  guard.Look(kStart + absl::Seconds(1), true);
  CHECK(guard.pace() == MovePace::kFree);
  Guard judge(Judges(0.1));
  CHECK_FALSE(judge.NoteChange(kStart + absl::Seconds(1), ""));
}

TEST_CASE("a change after which steps take longer, at no more tokens, is found out", "[guard]") {
  struct {
    absl::Duration after;
    uint64_t tokens;
    bool found;
  } const cases[] = {{20 * kMs, 100, false}, {21 * kMs, 100, false}, {24 * kMs, 100, true},
                     {24 * kMs, 90, true},   {24 * kMs, 120, false}, {10 * kMs, 100, false}};
  for (const auto& c : cases) {
    CAPTURE(c.after, c.tokens);
    Guard guard(Judges(0.1));
    Feed(guard, kStart, absl::Seconds(10), 20 * kMs);
    absl::Time now = kStart + absl::Seconds(10);
    REQUIRE(guard.NoteChange(now, "o1"));
    Feed(guard, now, absl::Seconds(12), c.after, c.tokens);
    CHECK_FALSE(guard.Judge(now + absl::Seconds(5)).has_value());
    const auto verdict = guard.Judge(now + absl::Seconds(12));
    REQUIRE(verdict.has_value() == c.found);
    if (c.found) {
      CHECK(verdict->operation_id == "o1");
      CHECK(verdict->text.find("in the median instead of") != std::string::npos);
    }
    CHECK_FALSE(guard.Judge(now + absl::Seconds(13)).has_value());
  }
}

TEST_CASE("changes during a trial are judged with it, those that move experts first of all", "[guard]") {
  Guard guard(Judges(0.1));
  Feed(guard, kStart, absl::Seconds(10), 20 * kMs);
  absl::Time now = kStart + absl::Seconds(10);
  REQUIRE(guard.NoteChange(now, ""));
  Feed(guard, now, absl::Seconds(8), 30 * kMs);
  now += absl::Seconds(8);
  CHECK_FALSE(guard.NoteChange(now, "o1"));
  CHECK_FALSE(guard.NoteChange(now, "o2"));
  Feed(guard, now, absl::Seconds(20), 30 * kMs);
  // While it moves experts the verdict waits.
  guard.NoteMoving(now += absl::Seconds(5));
  CHECK_FALSE(guard.Judge(now + absl::Seconds(10)).has_value());
  const auto verdict = guard.Judge(now + absl::Seconds(12));
  REQUIRE(verdict.has_value());
  CHECK(verdict->operation_id == "o1");
}

TEST_CASE("a trial that ended is not judged", "[guard]") {
  Guard guard(Judges(0.1));
  Feed(guard, kStart, absl::Seconds(10), 20 * kMs);
  REQUIRE(guard.NoteChange(kStart + absl::Seconds(10), ""));
  guard.EndTrial();
  Feed(guard, kStart + absl::Seconds(10), absl::Seconds(12), 30 * kMs);
  CHECK_FALSE(guard.Judge(kStart + absl::Seconds(22)).has_value());
}

}  // namespace evenkeel::controller
