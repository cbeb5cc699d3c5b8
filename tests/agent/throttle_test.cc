// SPDX-License-Identifier: Apache-2.0
#include "agent/throttle.h"

#include "catch2/catch.hpp"

namespace evenkeel::agent {

TEST_CASE("pieces begin at the rate, whoever asks", "[throttle]") {
  Throttle throttle;
  const absl::Time begin = absl::UnixEpoch() + absl::Hours(1);
  uint64_t bytes = 0;
  // Asked every millisecond for a second, by two askers in turn.
  for (int ms = 0; ms < 1000; ++ms) {
    for (uint64_t piece : {uint64_t{1000}, uint64_t{3000}}) {
      if (throttle.TryBegin(begin + absl::Milliseconds(ms), piece, 200'000)) bytes += piece;
    }
  }
  CHECK(bytes >= 195'000);
  CHECK(bytes <= 206'000);
}

TEST_CASE("a refused piece may begin at the time that is named", "[throttle]") {
  Throttle throttle;
  const absl::Time begin = absl::UnixEpoch() + absl::Hours(1);
  CHECK(throttle.TryBegin(begin, 100, 1000));
  CHECK_FALSE(throttle.TryBegin(begin, 1, 1000));
  CHECK(throttle.NextBegin() == begin + absl::Milliseconds(100) - Throttle::kCatchUp);
  CHECK_FALSE(throttle.TryBegin(throttle.NextBegin() - absl::Nanoseconds(1), 1, 1000));
  CHECK(throttle.TryBegin(throttle.NextBegin(), 1, 1000));
}

TEST_CASE("what was begun at a tiny rate does not hold up a higher one", "[throttle]") {
  Throttle throttle;
  const absl::Time begin = absl::UnixEpoch() + absl::Hours(1);
  CHECK(throttle.TryBegin(begin, 65'536, 1));  // owed for 18 hours
  CHECK_FALSE(throttle.TryBegin(begin + absl::Seconds(1), 1, 1));
  CHECK_FALSE(throttle.TryBegin(begin + absl::Seconds(1), 1, 65'536));  // owed for a second now
  CHECK(throttle.NextBegin() < begin + absl::Seconds(2));
  CHECK(throttle.NextBegin() > begin + absl::Milliseconds(1900));
  CHECK(throttle.TryBegin(throttle.NextBegin(), 100, 65'536));
  // And the other way about: the same bytes take longer.
  const absl::Time later = begin + absl::Seconds(10);
  CHECK(throttle.TryBegin(later, 10'000, 10'000));
  CHECK_FALSE(throttle.TryBegin(later + absl::Milliseconds(500), 1, 1000));
  CHECK(throttle.NextBegin() > later + absl::Seconds(5));
  CHECK(throttle.TryBegin(later + absl::Milliseconds(500), 1, 0));
  CHECK(throttle.TryBegin(later + absl::Milliseconds(500), 1, 1000));
}

TEST_CASE("long idle time is not saved up, and no limit means none", "[throttle]") {
  Throttle throttle;
  const absl::Time begin = absl::UnixEpoch() + absl::Hours(1);
  CHECK(throttle.TryBegin(begin, 1000, 1000));
  const absl::Time later = begin + absl::Hours(1);
  CHECK(throttle.TryBegin(later, 1000, 1000));
  CHECK_FALSE(throttle.TryBegin(later + absl::Milliseconds(900), 1000, 1000));
  for (int i = 0; i < 100; ++i) CHECK(throttle.TryBegin(begin, UINT64_MAX, 0));
}

}  // namespace evenkeel::agent
