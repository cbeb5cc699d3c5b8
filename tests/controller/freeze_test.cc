// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/freeze.h"

#include <string>
#include <utility>

#include "catch2/catch.hpp"

namespace evenkeel::controller {
namespace {

absl::Time At(const std::string& text) {
  absl::Time time;
  std::string error;
  REQUIRE(absl::ParseTime("%Y-%m-%d %H:%M", text, &time, &error));
  return time;
}

std::string Until(const std::string& freeze, const std::string& now) {
  const absl::Time until = FrozenUntil({*ParseFreeze(freeze)}, At(now));
  return until == absl::InfinitePast() ? "" : absl::FormatTime("%Y-%m-%d %H:%M", until, absl::UTCTimeZone());
}

}  // namespace

TEST_CASE("hours of the week are read and written", "[freeze]") {
  const std::pair<const char*, const char*> cases[] = {{"mon-fri 08:00-20:00", "mon,tue,wed,thu,fri 08:00-20:00"},
                                                       {"sat,sun 00:00-24:00", "sat,sun 00:00-24:00"},
                                                       {"daily 22:00-06:00", "daily 22:00-06:00"},
                                                       {"fri-mon 01:30-01:31", "mon,fri,sat,sun 01:30-01:31"},
                                                       {"mon-sun 10:00-12:00", "daily 10:00-12:00"}};
  for (const auto& [text, written] : cases) {
    CAPTURE(text);
    const auto freeze = ParseFreeze(text);
    REQUIRE(freeze.ok());
    CHECK(ToString(*freeze) == written);
    CHECK(*ParseFreeze(written) == *freeze);
  }
}

TEST_CASE("what is no hours of the week is refused with what is wanted", "[freeze]") {
  for (const char* text : {"", "mon", "08:00-20:00", "mon 8-20", "mon 08:00", "mon 24:00-06:00", "mon 08:00-08:00",
                           "mon 08:60-09:00", "mon 25:00-26:00", "moon 08:00-09:00", "mon-tue-wed 08:00-09:00",
                           "mon, 08:00-09:00", "mon 08:00-09:00 x", "mon -1:00-09:00", "mon 08:00-09:00-10:00"}) {
    CAPTURE(text);
    const auto freeze = ParseFreeze(text);
    REQUIRE_FALSE(freeze.ok());
    CHECK(std::string(freeze.status().message()).find("days and hours in UTC wanted") != std::string::npos);
  }
}

TEST_CASE("a freeze holds from its begin to its end, over midnight too", "[freeze]") {
  // 2026-11-23 was a Monday.
  CHECK(Until("mon 08:00-20:00", "2026-11-23 07:59").empty());
  CHECK(Until("mon 08:00-20:00", "2026-11-23 08:00") == "2026-11-23 20:00");
  CHECK(Until("mon 08:00-20:00", "2026-11-23 20:00").empty());
  CHECK(Until("mon 08:00-20:00", "2026-11-24 12:00").empty());
  CHECK(Until("daily 22:00-06:00", "2026-11-23 05:59") == "2026-11-23 06:00");
  CHECK(Until("daily 22:00-06:00", "2026-11-23 23:00") == "2026-11-24 06:00");
  CHECK(Until("sun 22:00-06:00", "2026-11-23 05:00") == "2026-11-23 06:00");
  CHECK(Until("mon 22:00-06:00", "2026-11-23 05:00").empty());
  CHECK(Until("sat,sun 00:00-24:00", "2026-11-22 23:59") == "2026-11-23 00:00");
  CHECK(FrozenUntil({}, At("2026-11-23 12:00")) == absl::InfinitePast());
  CHECK(FrozenUntil({*ParseFreeze("mon 10:00-13:00"), *ParseFreeze("daily 12:00-14:00")}, At("2026-11-23 12:30")) ==
        At("2026-11-23 14:00"));
}

}  // namespace evenkeel::controller
