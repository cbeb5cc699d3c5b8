// SPDX-License-Identifier: Apache-2.0
//
// Progress: one line on a terminal that says how far a long run has come. Silent elsewhere.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>

namespace evenkeel::cli {

class Progress {
 public:
  // Writes to `out` only where that is a terminal. `total` > 0 steps.
  Progress(std::ostream& out, bool terminal, uint64_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // One more step, of what `label` names. Rewrites the line when the whole percent or the label changes.
  void Step(const std::string& label);

 private:
  std::ostream& out_;
  const bool terminal_;
  const uint64_t total_;
  uint64_t done_ = 0;
  int percent_ = -1;
  std::string label_;
};

}  // namespace evenkeel::cli
