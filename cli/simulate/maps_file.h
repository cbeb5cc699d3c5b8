// SPDX-License-Identifier: Apache-2.0
//
// MapsFile: the maps of a replay as JSON lines, one whenever a layer's map changes:
//
//   {"window": t, "layer": l, "slots": [expert or -1, ...], "shares": [[expert, slot, share], ...]}
//
// From window t on, layer l holds these experts in its slots, rank-major, and splits each expert's tokens by these
// shares; without "shares" evenly.
//
// Errors:    those of OutFile; there is no file of that name before Commit.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "algos/replay/replay.h"
#include "cli/files/file.h"

namespace evenkeel::cli {

std::string MapLine(const algos::MapChange& change, int num_experts);

class MapsFile {
 public:
  static absl::StatusOr<MapsFile> Create(const std::string& path, int num_experts);

  void Write(const algos::MapChange& change) { file_->Write(MapLine(change, num_experts_)); }
  absl::Status Commit() { return file_->Commit(); }

 private:
  MapsFile(std::unique_ptr<OutFile> file, int num_experts) : file_(std::move(file)), num_experts_(num_experts) {}

  std::unique_ptr<OutFile> file_;
  int num_experts_;
};

}  // namespace evenkeel::cli
