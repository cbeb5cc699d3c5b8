// SPDX-License-Identifier: Apache-2.0
//
// LoadHistory: closed windows of a group's load as they are kept beyond a controller's life, so that its successor
// plans by them at once instead of counting anew.
//
// Threads:   plain values.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"

#include "algos/load_windows.h"
#include "algos/problem.h"

namespace evenkeel::controller {

// One window in which something was counted.
struct KeptWindow {
  algos::WindowSpan span;
  algos::Load tokens;
  algos::Load prefill, decode;  // without tokens where nothing of the phase was counted

  friend bool operator==(const KeptWindow&, const KeptWindow&) = default;
};

struct LoadHistory {
  std::string group;
  std::string model;  // what was counted for another is worth nothing
  int num_layers = 0;
  int num_experts = 0;
  absl::Duration kept_for;          // older windows of the group may go
  std::vector<KeptWindow> windows;  // oldest first

  friend bool operator==(const LoadHistory&, const LoadHistory&) = default;
};

}  // namespace evenkeel::controller
