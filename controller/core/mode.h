// SPDX-License-Identifier: Apache-2.0
//
// Mode: how much the controller does by itself with a group. What operators ask for, ranks that come, go or are lost, and
// experts that must be restored are seen to in every mode.
//
// Plain values.
//
// Errors:    ParseMode answers kInvalidArgument naming the modes there are.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"

namespace evenkeel::controller {

enum class Mode : uint32_t {
  kOff = 0,     // nothing is decided, and no load kept
  kRecord = 1,  // load is kept
  kShadow = 2,  // and decisions are taken and recorded, with what they would gain; none is carried out
  kShares = 3,  // of decisions, only shares are: the fast loop alone
  kFull = 4,    // all are
};

// "off", "record", ...
const char* NameOf(Mode mode);
absl::StatusOr<Mode> ParseMode(std::string_view name);

constexpr bool KeepsLoad(Mode mode) { return mode != Mode::kOff; }
constexpr bool DecidesShares(Mode mode) {
  return mode == Mode::kShadow || mode == Mode::kShares || mode == Mode::kFull;
}
constexpr bool DecidesPlacement(Mode mode) { return mode == Mode::kShadow || mode == Mode::kFull; }
// Whether what is decided is done.
constexpr bool Acts(Mode mode) { return mode == Mode::kShares || mode == Mode::kFull; }

}  // namespace evenkeel::controller
