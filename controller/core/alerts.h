// SPDX-License-Identifier: Apache-2.0
//
// Alerts: what an operator should know of a group, from when, and until when.
//
// An alert lasts as long as its condition holds; one without a condition tells of something that happened once.
//
// Threads:   none. Owned by GroupState.
// Limits:    kKept; the oldest that ended go first, then the oldest.
// Order:     oldest first, by their beginning.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace evenkeel::controller {

struct GroupState;

struct Alert {
  std::string text;
  absl::Time began;
  std::optional<absl::Time> ended;  // none: it lasts

  friend bool operator==(const Alert&, const Alert&) = default;
};

class Alerts {
 public:
  static constexpr size_t kKept = 32;

  // Whether what was raised is still so.
  using Lasts = std::function<bool(const GroupState&)>;

  // Null `lasts`: it is over as soon as it was told.
  void Raise(std::string text, Lasts lasts, absl::Time now);

  // Ends those whose condition holds no more; returns their texts.
  std::vector<std::string> End(const GroupState& group, absl::Time now);
  // Ends all: what they were raised for is gone.
  void EndAll(absl::Time now);

  std::vector<Alert> list() const;

 private:
  struct Entry {
    Alert alert;
    Lasts lasts;
  };

  std::deque<Entry> entries_;
};

}  // namespace evenkeel::controller
