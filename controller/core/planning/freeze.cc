// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/freeze.h"

#include <algorithm>
#include <array>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace evenkeel::controller {

namespace {

constexpr std::array<const char*, 7> kDays = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};
constexpr unsigned kAllDays = 0x7f;
constexpr absl::Duration kDay = absl::Hours(24);

std::optional<size_t> DayOf(absl::string_view name) {
  const auto found = std::ranges::find(kDays, name);
  if (found == kDays.end()) return std::nullopt;
  return static_cast<size_t>(found - kDays.begin());
}

std::optional<unsigned> DaysOf(absl::string_view text) {
  if (text == "daily") return kAllDays;
  unsigned days = 0;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> ends = absl::StrSplit(part, '-');
    const std::optional<size_t> first = DayOf(ends.front()), last = DayOf(ends.back());
    if (ends.size() > 2 || !first.has_value() || !last.has_value()) return std::nullopt;
    for (size_t day = *first;; day = (day + 1) % kDays.size()) {
      days |= 1u << day;
      if (day == *last) break;
    }
  }
  return days;
}

// "24:00" is the end of a day.
std::optional<absl::Duration> TimeOfDay(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  int hours = 0, minutes = 0;
  if (parts.size() != 2 || parts[0].size() != 2 || parts[1].size() != 2) return std::nullopt;
  if (!absl::SimpleAtoi(parts[0], &hours) || !absl::SimpleAtoi(parts[1], &minutes)) return std::nullopt;
  const absl::Duration time = absl::Hours(hours) + absl::Minutes(minutes);
  if (hours < 0 || minutes < 0 || minutes > 59 || time > kDay) return std::nullopt;
  return time;
}

std::string Text(absl::Duration time) {
  const int64_t minutes = time / absl::Minutes(1);
  return absl::StrFormat("%02d:%02d", minutes / 60, minutes % 60);
}

}  // namespace

absl::StatusOr<Freeze> ParseFreeze(std::string_view text) {
  const std::vector<std::string> words =
      absl::StrSplit(absl::string_view(text.data(), text.size()), ' ', absl::SkipEmpty());
  const std::vector<std::string> ends =
      words.size() == 2 ? std::vector<std::string>(absl::StrSplit(words[1], '-')) : std::vector<std::string>();
  const std::optional<unsigned> days = words.empty() ? std::nullopt : DaysOf(words[0]);
  const std::optional<absl::Duration> from = ends.size() == 2 ? TimeOfDay(ends[0]) : std::nullopt;
  const std::optional<absl::Duration> to = ends.size() == 2 ? TimeOfDay(ends[1]) : std::nullopt;
  if (!days.has_value() || !from.has_value() || !to.has_value() || *from == kDay || *from == *to) {
    return absl::InvalidArgumentError(absl::StrCat(
        "is '", std::string(text),
        "': days and hours in UTC wanted, as 'mon-fri 08:00-20:00', 'sat,sun 00:00-24:00' or 'daily 22:00-06:00'"));
  }
  return Freeze{*days, *from, *to > *from ? *to - *from : *to - *from + kDay};
}

std::string ToString(const Freeze& freeze) {
  std::vector<const char*> days;
  for (size_t day = 0; day < kDays.size(); ++day) {
    if ((freeze.days >> day & 1) != 0) days.push_back(kDays[day]);
  }
  const absl::Duration end = freeze.begin + freeze.length;
  return absl::StrCat(freeze.days == kAllDays ? "daily" : absl::StrJoin(days, ","), " ", Text(freeze.begin), "-",
                      Text(end > kDay ? end - kDay : end));
}

absl::Time FrozenUntil(const std::vector<Freeze>& freezes, absl::Time now) {
  const int64_t today = absl::ToUnixSeconds(now) / 86'400;
  absl::Time until = absl::InfinitePast();
  for (const Freeze& freeze : freezes) {
    for (int64_t day : {today - 1, today}) {
      // Day 0, 1 January 1970, was a Thursday.
      if ((freeze.days >> ((day + 3) % 7) & 1) == 0) continue;
      const absl::Time begin = absl::UnixEpoch() + day * kDay + freeze.begin;
      if (begin <= now && now < begin + freeze.length) until = std::max(until, begin + freeze.length);
    }
  }
  return until;
}

}  // namespace evenkeel::controller
