// SPDX-License-Identifier: Apache-2.0
#include "cli/files/expert_map.h"

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "cli/files/limits.h"

namespace evenkeel::cli {

namespace {

absl::Status CheckLength(const std::string& where, const char* counted, int count, const char* listed, size_t length) {
  if (static_cast<size_t>(count) == length) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(where, where.empty() ? "" : ": ", counted, " is ", count, ", ", listed, " has ", length));
}

absl::Status CheckNumber(const Json& object, const std::string& where, const char* name, size_t wanted) {
  EVENKEEL_ASSIGN_OR_RETURN(const int id, IntegerField(object, where, name, 0, kRanksMax));
  if (static_cast<size_t>(id) == wanted) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(where, ".", name, " is ", id, "; in this place it must be ", wanted));
}

// The slots of one layer, device after device.
absl::StatusOr<std::vector<int>> SlotsOfLayer(const Json& layer, const std::string& where, int& num_ranks) {
  EVENKEEL_ASSIGN_OR_RETURN(const int count, IntegerField(layer, where, "device_count", 1, kRanksMax));
  EVENKEEL_ASSIGN_OR_RETURN(const Json* devices, ArrayField(layer, where, "device_list"));
  EVENKEEL_RETURN_IF_ERROR(CheckLength(where, "device_count", count, "device_list", devices->size()));
  if (num_ranks == 0) num_ranks = count;
  if (count != num_ranks) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ".device_count is ", count, ", in the layers before ", num_ranks));
  }
  std::vector<int> slots;
  size_t per_rank = 0;
  for (size_t d = 0; d < devices->size(); ++d) {
    const Json& device = (*devices)[d];
    const std::string at = absl::StrCat(where, ".device_list[", d, "]");
    EVENKEEL_RETURN_IF_ERROR(CheckNumber(device, at, "device_id", d));
    EVENKEEL_ASSIGN_OR_RETURN(const Json* array, ArrayField(device, at, "device_expert"));
    EVENKEEL_ASSIGN_OR_RETURN(const std::vector<int> experts,
                              IntegersOf(*array, absl::StrCat(at, ".device_expert"), 0, kExpertsMax - 1));
    if (d == 0) per_rank = experts.size();
    if (experts.size() != per_rank) {
      return absl::InvalidArgumentError(
          absl::StrCat(at, ".device_expert has ", experts.size(), " slots, device 0 has ", per_rank));
    }
    slots.insert(slots.end(), experts.begin(), experts.end());
  }
  return slots;
}

}  // namespace

absl::StatusOr<MapFile> ParseExpertMap(const Json& json, const MapHints& hints) {
  EVENKEEL_ASSIGN_OR_RETURN(const int count, IntegerField(json, "", "moe_layer_count", 1, kLayersMax));
  EVENKEEL_ASSIGN_OR_RETURN(const Json* list, ArrayField(json, "", "layer_list"));
  EVENKEEL_RETURN_IF_ERROR(CheckLength("", "moe_layer_count", count, "layer_list", list->size()));
  std::vector<std::vector<int>> layers;
  int num_ranks = 0;
  for (size_t l = 0; l < list->size(); ++l) {
    const std::string where = absl::StrCat("layer_list[", l, "]");
    EVENKEEL_RETURN_IF_ERROR(CheckNumber((*list)[l], where, "layer_id", l));
    EVENKEEL_ASSIGN_OR_RETURN(std::vector<int> slots, SlotsOfLayer((*list)[l], where, num_ranks));
    layers.push_back(std::move(slots));
  }
  EVENKEEL_ASSIGN_OR_RETURN(
      MapFile map,
      MapOf(layers, {.num_ranks = num_ranks, .num_experts = hints.num_experts, .first_layer = hints.first_layer}));
  EVENKEEL_RETURN_IF_ERROR(CheckSizes(map, hints));
  return map;
}

absl::StatusOr<std::string> RenderExpertMap(const MapFile& map) {
  EVENKEEL_RETURN_IF_ERROR(CheckComplete(map, "expert_map"));
  std::string text = absl::StrCat("{\"moe_layer_count\": ", map.layers.size(), ", \"layer_list\": [");
  const auto per_rank = static_cast<std::ptrdiff_t>(map.shape.slots_per_rank);
  for (size_t l = 0; l < map.layers.size(); ++l) {
    const std::vector<int> slots = SlotsOf(map.layers[l].placement);
    absl::StrAppend(&text, l == 0 ? "\n" : ",\n", " {\"layer_id\": ", l, ", \"device_count\": ", map.shape.num_ranks,
                    ", \"device_list\": [");
    for (int rank = 0; rank < map.shape.num_ranks; ++rank) {
      const std::vector<int> experts(slots.begin() + rank * per_rank, slots.begin() + (rank + 1) * per_rank);
      absl::StrAppend(&text, rank == 0 ? "\n" : ",\n", "  {\"device_id\": ", rank,
                      ", \"device_expert\": ", Json(experts).dump(), "}");
    }
    text += "]}";
  }
  return text + "\n]}\n";
}

}  // namespace evenkeel::cli
