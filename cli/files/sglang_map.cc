// SPDX-License-Identifier: Apache-2.0
#include "cli/files/sglang_map.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "cli/files/limits.h"

namespace evenkeel::cli {

absl::StatusOr<MapFile> ParseSglangMap(const Json& json, const MapHints& hints) {
  EVENKEEL_ASSIGN_OR_RETURN(const Json* rows, ArrayField(json, "", "physical_to_logical_map"));
  const auto dense = static_cast<size_t>(hints.first_layer);
  if (rows->size() <= dense || rows->size() - dense > static_cast<size_t>(kLayersMax)) {
    return absl::InvalidArgumentError(absl::StrCat("physical_to_logical_map has ", rows->size(), " rows, the first ",
                                                   dense, " of dense layers; 1 to ", kLayersMax, " more are possible"));
  }
  std::vector<std::vector<int>> layers;
  for (size_t row = dense; row < rows->size(); ++row) {
    const std::string where = absl::StrCat("physical_to_logical_map[", row, "]");
    EVENKEEL_ASSIGN_OR_RETURN(std::vector<int> slots, IntegersOf((*rows)[row], where, 0, kExpertsMax - 1));
    layers.push_back(std::move(slots));
  }
  return MapOf(layers, hints);
}

absl::StatusOr<std::string> RenderSglangMap(const MapFile& map) {
  EVENKEEL_RETURN_IF_ERROR(CheckComplete(map, "sglang"));
  std::vector<int> trivial;
  for (int slot = 0; slot < map.shape.num_slots(); ++slot) trivial.push_back(slot % map.shape.num_experts);
  std::string text = "{\"physical_to_logical_map\": [";
  for (int row = 0; row < map.first_layer; ++row) {
    absl::StrAppend(&text, row == 0 ? "\n " : ",\n ", Json(trivial).dump());
  }
  for (size_t layer = 0; layer < map.layers.size(); ++layer) {
    const bool first = layer == 0 && map.first_layer == 0;
    absl::StrAppend(&text, first ? "\n " : ",\n ", Json(SlotsOf(map.layers[layer].placement)).dump());
  }
  return text + "\n]}\n";
}

}  // namespace evenkeel::cli
