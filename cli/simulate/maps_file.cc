// SPDX-License-Identifier: Apache-2.0
#include "cli/simulate/maps_file.h"

#include <cstddef>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace evenkeel::cli {

namespace {

absl::Status CannotWrite(const std::string& path) {
  return absl::UnavailableError(absl::StrCat("write ", path, ": failed; is there such a folder, and room?"));
}

}  // namespace

std::string MapLine(const algos::MapChange& change, int num_experts) {
  std::string line = absl::StrCat("{\"window\":", change.window, ",\"layer\":", change.layer.value(), ",\"slots\":[");
  const char* comma = "";
  for (ExpertId expert : change.placement.expert_of_slot) {
    absl::StrAppend(&line, comma, expert.value());
    comma = ",";
  }
  absl::StrAppend(&line, "]");
  if (!change.shares.empty()) {
    absl::StrAppend(&line, ",\"shares\":[");
    comma = "";
    for (int e = 0; e < num_experts; ++e) {
      const size_t first = static_cast<size_t>(change.replicas.offsets[static_cast<size_t>(e)]);
      const size_t end = static_cast<size_t>(change.replicas.offsets[static_cast<size_t>(e) + 1]);
      for (size_t i = first; i < end; ++i) {
        absl::StrAppend(&line, comma, "[", e, ",", change.replicas.slots[i].value(), ",");
        absl::StrAppendFormat(&line, "%.10g]", change.shares[i]);
        comma = ",";
      }
    }
    absl::StrAppend(&line, "]");
  }
  return absl::StrCat(line, "}\n");
}

absl::StatusOr<std::unique_ptr<MapsFile>> MapsFile::Create(const std::string& path, int num_experts) {
  auto file = absl::WrapUnique(new MapsFile(path, num_experts));
  if (!file->file_) return CannotWrite(path);
  return file;
}

absl::Status MapsFile::Close() {
  file_.close();
  return file_ ? absl::OkStatus() : CannotWrite(path_);
}

}  // namespace evenkeel::cli
