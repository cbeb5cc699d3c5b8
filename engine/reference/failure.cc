// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/failure.h"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace evenkeel::engine {

absl::StatusOr<Failure::Kind> Failure::Parse(const std::string& name) {
  constexpr std::array<std::pair<const char*, Kind>, 7> kNames = {{{"exit", Kind::kExit},
                                                                   {"hang", Kind::kHang},
                                                                   {"slow", Kind::kSlow},
                                                                   {"zeros", Kind::kZeros},
                                                                   {"cut", Kind::kCut},
                                                                   {"silence", Kind::kSilence},
                                                                   {"pause", Kind::kPause}}};
  for (const auto& [known, kind] : kNames) {
    if (name == known) return kind;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("no failure ", name, ": exit, hang, slow, zeros, cut, silence or pause"));
}

void Failure::BeSilent() {
  int64_t begun = 0;
  const int64_t until = absl::ToUnixNanos(absl::Now() + silence_.length);
  // Whoever asks first begins it, all others are silent with it.
  if (silent_until_ns_.compare_exchange_strong(begun, until) && kind_ == Kind::kPause) {
    silence_.announce(silence_.length);
  }
  while (absl::ToUnixNanos(absl::Now()) < silent_until_ns_) poll(nullptr, 0, 1);
}

Failure::Kind Failure::Take() {
  if (!due_) return Kind::kNone;
  if (kind_ == Kind::kExit) _exit(3);
  while (kind_ == Kind::kHang) pause();
  if (kind_ == Kind::kSilence || kind_ == Kind::kPause) BeSilent();
  return kind_;
}

}  // namespace evenkeel::engine
