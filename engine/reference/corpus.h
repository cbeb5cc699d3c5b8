// SPDX-License-Identifier: Apache-2.0
//
// Corpus: real text of several domains, and a mix of them that changes over time.
//
// Threads:   constant after creation.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "algos/base/rng.h"

namespace evenkeel::engine {

// One text per domain: <dir>/<domain>.txt, domains in alphabetical order.
class Corpus {
 public:
  static absl::StatusOr<Corpus> Load(const std::string& dir);

  const std::vector<std::string>& domains() const { return domains_; }
  // `bytes` consecutive bytes of a text, from anywhere in it. Requires: every text that long (Check).
  std::vector<uint8_t> Window(size_t domain, int bytes, Rng& rng) const;
  absl::Status Check(int bytes) const;

 private:
  std::vector<std::string> domains_, texts_;
};

// A schedule like "python:10,cxx:10,mixed:5": at the start of each part its domain alone ("mixed": all alike), moving
// evenly to the next part's over its seconds; after the last part the first follows.
class Mix {
 public:
  static absl::StatusOr<Mix> Parse(const std::string& schedule, const std::vector<std::string>& domains);

  // The weight of each domain `elapsed` after the start; they add up to 1.
  std::vector<double> At(absl::Duration elapsed) const;
  size_t Draw(absl::Duration elapsed, Rng& rng) const;

 private:
  struct Part {
    std::vector<double> weights;
    absl::Duration length;
  };
  std::vector<Part> parts_;
  absl::Duration total_;
};

}  // namespace evenkeel::engine
