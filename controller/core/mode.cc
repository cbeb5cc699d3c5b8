// SPDX-License-Identifier: Apache-2.0
#include "controller/core/mode.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace evenkeel::controller {

namespace {

constexpr Mode kModes[] = {Mode::kOff, Mode::kRecord, Mode::kShadow, Mode::kShares, Mode::kFull};

}  // namespace

const char* NameOf(Mode mode) {
  static constexpr const char* kNames[] = {"off", "record", "shadow", "shares", "full"};
  return kNames[static_cast<size_t>(mode)];
}

absl::StatusOr<Mode> ParseMode(std::string_view name) {
  for (const Mode mode : kModes) {
    if (name == NameOf(mode)) return mode;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("mode is '", std::string(name), "': off, record, shadow, shares or full wanted"));
}

}  // namespace evenkeel::controller
