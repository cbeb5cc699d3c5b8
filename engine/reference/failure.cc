// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/failure.h"

#include <unistd.h>

#include <array>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace evenkeel::engine {

absl::StatusOr<Failure::Kind> Failure::Parse(const std::string& name) {
  constexpr std::array<std::pair<const char*, Kind>, 5> kNames = {{{"exit", Kind::kExit},
                                                                   {"hang", Kind::kHang},
                                                                   {"slow", Kind::kSlow},
                                                                   {"zeros", Kind::kZeros},
                                                                   {"cut", Kind::kCut}}};
  for (const auto& [known, kind] : kNames) {
    if (name == known) return kind;
  }
  return absl::InvalidArgumentError(absl::StrCat("no failure ", name, ": exit, hang, slow, zeros or cut"));
}

Failure::Kind Failure::Take() {
  if (!due_) return Kind::kNone;
  if (kind_ == Kind::kExit) _exit(3);
  while (kind_ == Kind::kHang) pause();
  return kind_;
}

}  // namespace evenkeel::engine
