// SPDX-License-Identifier: Apache-2.0
//
// MapsFile: the maps of a replay as JSON lines, one whenever a layer's map changes:
//
//   {"window": t, "layer": l, "slots": [expert or -1, ...], "shares": [[expert, slot, share], ...]}
//
// From window t on, layer l holds these experts in its slots, rank-major, and splits each expert's tokens by these
// shares; without "shares" evenly.
//
// Errors:    kUnavailable for a file that cannot be written, told by Create and Close.
#pragma once

#include <fstream>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "algos/replay/replay.h"

namespace evenkeel::cli {

std::string MapLine(const algos::MapChange& change, int num_experts);

class MapsFile {
 public:
  static absl::StatusOr<std::unique_ptr<MapsFile>> Create(const std::string& path, int num_experts);

  void Write(const algos::MapChange& change) { file_ << MapLine(change, num_experts_); }
  absl::Status Close();

 private:
  MapsFile(const std::string& path, int num_experts) : path_(path), num_experts_(num_experts), file_(path) {}

  const std::string path_;
  const int num_experts_;
  std::ofstream file_;
};

}  // namespace evenkeel::cli
