// SPDX-License-Identifier: Apache-2.0
//
// Freeze: hours of the week, in UTC, in which the controller does nothing with a group by itself. What operators ask for,
// ranks that come, go or are lost, and experts that must be restored are seen to all the same.
//
// Plain values and pure functions.
//
// Errors:    ParseFreeze answers kInvalidArgument with what was wanted.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace evenkeel::controller {

// From `begin` on, for `length`, on each of `days`; it may reach into the next day.
struct Freeze {
  unsigned days = 0;  // bit 0 Monday to bit 6 Sunday
  absl::Duration begin;
  absl::Duration length;

  friend bool operator==(const Freeze&, const Freeze&) = default;
};

// "mon-fri 08:00-20:00", "sat,sun 00:00-24:00", "daily 22:00-06:00".
absl::StatusOr<Freeze> ParseFreeze(std::string_view text);
// As ParseFreeze takes it.
std::string ToString(const Freeze& freeze);

// When the freezes that hold at `now` are over; InfinitePast: none holds.
absl::Time FrozenUntil(const std::vector<Freeze>& freezes, absl::Time now);

}  // namespace evenkeel::controller
