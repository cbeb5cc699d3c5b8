// SPDX-License-Identifier: Apache-2.0
#include "cli/simulate/maps_file.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "algos/base/status_macros.h"

namespace evenkeel::cli {

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

absl::StatusOr<MapsFile> MapsFile::Create(const std::string& path, int num_experts) {
  EVENKEEL_ASSIGN_OR_RETURN(std::unique_ptr<OutFile> file, OutFile::Create(path));
  return MapsFile(std::move(file), num_experts);
}

}  // namespace evenkeel::cli
