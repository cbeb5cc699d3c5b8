// SPDX-License-Identifier: Apache-2.0
//
// Trace: what happened in a run: a digest of everything, the last lines as text, and the first violation.
//
// Lines are kept as numbers and made into text only when somebody reads them.
//
// Threads:   none.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "algos/base/hash.h"
#include "tests/sim/event_queue.h"

namespace evenkeel::sim {

// One thing of which a run has several: group and rank, rank -1 for what is not of one rank.
struct Where {
  int group = -1;
  int rank = -1;
};

class Trace {
 public:
  static constexpr size_t kLinesKept = 60;

  Trace(const EventQueue* queue, bool verbose) : queue_(queue), verbose_(verbose) {}

  // `what` is a literal. Up to three numbers say which.
  void Add(const char* what, Where where, int64_t a = 0, int64_t b = 0, int64_t c = 0);

  // The first one ends the run. `text` says what was found, with which values.
  void Violation(std::string text);
  bool violated() const { return !violation_.empty(); }
  const std::string& violation() const { return violation_; }

  uint64_t digest() const { return digest_.value(); }
  uint64_t num_lines() const { return num_lines_; }
  // Oldest first.
  std::vector<std::string> LastLines() const;

 private:
  struct Line {
    absl::Time time;
    const char* what = nullptr;
    Where where;
    int64_t a = 0, b = 0, c = 0;
  };
  static std::string ToText(const Line& line);

  const EventQueue* const queue_;
  const bool verbose_;
  Digest digest_;
  uint64_t num_lines_ = 0;
  std::array<Line, kLinesKept> lines_;
  std::string violation_;
};

}  // namespace evenkeel::sim
