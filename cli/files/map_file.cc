// SPDX-License-Identifier: Apache-2.0
#include "cli/files/map_file.h"

#include <algorithm>
#include <cstddef>
#include <string>

#include "absl/strings/str_cat.h"

#include "algos/base/ids.h"
#include "algos/base/status_macros.h"
#include "cli/files/limits.h"

namespace evenkeel::cli {

namespace {

absl::Status Bad(absl::string_view what) { return absl::InvalidArgumentError(absl::StrCat("map: ", what)); }

absl::Status CheckWithin(std::string_view what, int count, int max) {
  if (count >= 1 && count <= max) return absl::OkStatus();
  return Bad(absl::StrCat(count, " ", std::string(what), "; 1 to ", max, " are possible"));
}

}  // namespace

absl::Status CheckSizes(const MapFile& map, const MapHints& hints) {
  const algos::Shape& shape = map.shape;
  EVENKEEL_RETURN_IF_ERROR(
      CheckWithin("layers", static_cast<int>(std::min(map.layers.size(), size_t{1} << 30)), kLayersMax));
  EVENKEEL_RETURN_IF_ERROR(CheckWithin("experts", shape.num_experts, kExpertsMax));
  EVENKEEL_RETURN_IF_ERROR(CheckWithin("ranks", shape.num_ranks, kRanksMax));
  EVENKEEL_RETURN_IF_ERROR(CheckWithin("slots on a rank", shape.slots_per_rank, kSlotsMax / shape.num_ranks));
  if (hints.num_ranks != 0 && hints.num_ranks != shape.num_ranks) {
    return Bad(absl::StrCat("is for ", shape.num_ranks, " ranks, not for ", hints.num_ranks));
  }
  if (hints.num_experts != 0 && hints.num_experts != shape.num_experts) {
    return Bad(absl::StrCat("is of ", shape.num_experts, " experts, not of ", hints.num_experts));
  }
  if (map.first_layer < 0 || map.first_layer > kLayersMax) return Bad(absl::StrCat("first layer is ", map.first_layer));
  return absl::OkStatus();
}

absl::StatusOr<MapFile> MapOf(std::span<const std::vector<int>> slots_of_layer, const MapHints& hints) {
  if (slots_of_layer.empty()) return Bad("there are no layers");
  const size_t num_slots = slots_of_layer[0].size();
  int highest = -1;
  for (size_t layer = 0; layer < slots_of_layer.size(); ++layer) {
    if (slots_of_layer[layer].size() != num_slots) {
      return Bad(
          absl::StrCat("layer ", layer, " has ", slots_of_layer[layer].size(), " slots, layer 0 has ", num_slots));
    }
    for (int expert : slots_of_layer[layer]) highest = std::max(highest, expert);
  }
  if (num_slots == 0 || num_slots > static_cast<size_t>(kSlotsMax)) {
    return Bad(absl::StrCat("layers of ", num_slots, " slots; 1 to ", kSlotsMax, " are possible"));
  }
  const int num_ranks = hints.num_ranks;
  if (num_ranks < 1) return Bad("the file does not say how many ranks there are");
  if (num_slots % static_cast<size_t>(num_ranks) != 0) {
    return Bad(absl::StrCat(num_slots, " slots cannot be divided among ", num_ranks, " ranks"));
  }
  MapFile map{.shape = {.num_experts = hints.num_experts != 0 ? hints.num_experts : highest + 1,
                        .num_ranks = num_ranks,
                        .slots_per_rank = static_cast<int>(num_slots) / num_ranks},
              .first_layer = hints.first_layer};
  for (size_t layer = 0; layer < slots_of_layer.size(); ++layer) {
    algos::Placement placement;
    placement.expert_of_slot.reserve(num_slots);
    for (int expert : slots_of_layer[layer]) placement.expert_of_slot.push_back(ExpertId(expert));
    if (const absl::Status valid = algos::Validate(placement, map.shape); !valid.ok()) {
      return Bad(absl::StrCat("layer ", layer, ": ", valid.message()));
    }
    map.layers.push_back({.placement = std::move(placement)});
  }
  EVENKEEL_RETURN_IF_ERROR(CheckSizes(map, hints));
  return map;
}

absl::Status CheckComplete(const MapFile& map, std::string_view format) {
  for (size_t layer = 0; layer < map.layers.size(); ++layer) {
    const algos::Placement& placement = map.layers[layer].placement;
    const auto blank = std::ranges::find(placement.expert_of_slot, kNoExpert);
    if (blank != placement.expert_of_slot.end()) {
      return Bad(absl::StrCat("layer ", layer, " slot ", blank - placement.expert_of_slot.begin(), " is blank, which ",
                              std::string(format), " cannot say; evenkeel can"));
    }
    if (const absl::Status valid = algos::Validate(placement, map.shape); !valid.ok()) {
      return Bad(absl::StrCat("layer ", layer, ": ", valid.message(), ", which ", std::string(format), " cannot say"));
    }
  }
  return absl::OkStatus();
}

std::vector<int> SlotsOf(const algos::Placement& placement) {
  std::vector<int> slots;
  slots.reserve(placement.expert_of_slot.size());
  for (ExpertId expert : placement.expert_of_slot) slots.push_back(expert.valid() ? expert.value() : -1);
  return slots;
}

}  // namespace evenkeel::cli
