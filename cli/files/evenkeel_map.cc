// SPDX-License-Identifier: Apache-2.0
#include "cli/files/evenkeel_map.h"

#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "algos/base/ids.h"
#include "algos/base/status_macros.h"
#include "algos/layer_map.h"
#include "cli/files/limits.h"

namespace evenkeel::cli {

namespace {

constexpr int kVersion = 1;
constexpr double kSumTolerance = 1e-6;

// Shares by slot, as the file has them, to shares by replica, as plans have them.
absl::StatusOr<algos::Shares> SharesOf(const Json& array, const std::string& where, const algos::Placement& placement,
                                       int num_experts) {
  const std::vector<ExpertId>& experts = placement.expert_of_slot;
  if (!array.is_array() || array.size() != experts.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, " is not a list of ", experts.size(), " numbers, one a slot"));
  }
  std::vector<double> by_slot;
  std::vector<double> sums(static_cast<size_t>(num_experts), 0.0);
  for (size_t slot = 0; slot < experts.size(); ++slot) {
    const double share = array[slot].is_number() ? array[slot].get<double>() : -1.0;
    if (!(share >= 0 && share <= 1) || (!experts[slot].valid() && share != 0)) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, "[", slot, "] is ", array[slot].dump(),
                       experts[slot].valid() ? "; wanted is a number from 0 to 1" : "; the slot is blank"));
    }
    by_slot.push_back(share);
    if (experts[slot].valid()) sums[experts[slot].idx()] += share;
  }
  const algos::Replicas replicas = algos::Invert(placement, num_experts);
  for (int expert = 0; expert < num_experts; ++expert) {
    const double sum = sums[static_cast<size_t>(expert)];
    if (replicas.num_replicas(ExpertId(expert)) > 0 && std::abs(sum - 1) > kSumTolerance) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": those of expert ", expert, " add up to ", sum, ", not to 1"));
    }
  }
  algos::Shares shares;
  shares.reserve(replicas.slots.size());
  for (SlotIdx slot : replicas.slots) shares.push_back(by_slot[slot.idx()]);
  return shares;
}

absl::StatusOr<algos::LayerPlan> LayerOf(const Json& json, const std::string& where, const algos::Shape& shape) {
  EVENKEEL_RETURN_IF_ERROR(CheckFields(json, where, {"slots", "shares"}));
  EVENKEEL_ASSIGN_OR_RETURN(const Json* array, ArrayField(json, where, "slots"));
  const std::string slots_where = absl::StrCat(where, ".slots");
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<int> slots, IntegersOf(*array, slots_where, -1, shape.num_experts - 1));
  if (slots.size() != static_cast<size_t>(shape.num_slots())) {
    return absl::InvalidArgumentError(absl::StrCat(slots_where, " has ", slots.size(), " slots; ", shape.num_ranks,
                                                   " ranks x ", shape.slots_per_rank, " are ", shape.num_slots()));
  }
  algos::LayerPlan plan;
  for (int expert : slots) plan.placement.expert_of_slot.push_back(expert < 0 ? kNoExpert : ExpertId(expert));
  if (const auto shares = json.find("shares"); shares != json.end()) {
    EVENKEEL_ASSIGN_OR_RETURN(plan.shares,
                              SharesOf(*shares, absl::StrCat(where, ".shares"), plan.placement, shape.num_experts));
  }
  return plan;
}

}  // namespace

absl::StatusOr<MapFile> ParseEvenkeelMap(const Json& json, const MapHints& hints) {
  EVENKEEL_RETURN_IF_ERROR(
      CheckFields(json, "", {"evenkeel_map", "num_experts", "num_ranks", "slots_per_rank", "first_layer", "layers"}));
  EVENKEEL_ASSIGN_OR_RETURN(const int version, IntegerField(json, "", "evenkeel_map", 0, 1 << 30));
  if (version != kVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat("evenkeel_map is ", version, "; this program knows version ", kVersion));
  }
  MapFile map;
  EVENKEEL_ASSIGN_OR_RETURN(map.shape.num_experts, IntegerField(json, "", "num_experts", 1, kExpertsMax));
  EVENKEEL_ASSIGN_OR_RETURN(map.shape.num_ranks, IntegerField(json, "", "num_ranks", 1, kRanksMax));
  EVENKEEL_ASSIGN_OR_RETURN(map.shape.slots_per_rank,
                            IntegerField(json, "", "slots_per_rank", 1, kSlotsMax / map.shape.num_ranks));
  map.first_layer = hints.first_layer;
  if (json.contains("first_layer")) {
    EVENKEEL_ASSIGN_OR_RETURN(map.first_layer, IntegerField(json, "", "first_layer", 0, kLayersMax));
  }
  EVENKEEL_ASSIGN_OR_RETURN(const Json* layers, ArrayField(json, "", "layers"));
  if (layers->size() > static_cast<size_t>(kLayersMax)) {
    return absl::InvalidArgumentError(absl::StrCat("layers: ", layers->size(), "; at most ", kLayersMax));
  }
  for (size_t l = 0; l < layers->size(); ++l) {
    EVENKEEL_ASSIGN_OR_RETURN(algos::LayerPlan plan, LayerOf((*layers)[l], absl::StrCat("layers[", l, "]"), map.shape));
    map.layers.push_back(std::move(plan));
  }
  EVENKEEL_RETURN_IF_ERROR(CheckSizes(map, hints));
  return map;
}

std::string RenderEvenkeelMap(const MapFile& map) {
  std::string text =
      absl::StrCat("{\"evenkeel_map\": ", kVersion, ",\n \"num_experts\": ", map.shape.num_experts,
                   ", \"num_ranks\": ", map.shape.num_ranks, ", \"slots_per_rank\": ", map.shape.slots_per_rank, ",\n");
  if (map.first_layer != 0) absl::StrAppend(&text, " \"first_layer\": ", map.first_layer, ",\n");
  text += " \"layers\": [";
  for (size_t l = 0; l < map.layers.size(); ++l) {
    const algos::LayerPlan& plan = map.layers[l];
    absl::StrAppend(&text, l == 0 ? "\n" : ",\n", "  {\"slots\": ", Json(SlotsOf(plan.placement)).dump());
    if (!plan.shares.empty()) {
      const algos::Replicas replicas = algos::Invert(plan.placement, map.shape.num_experts);
      std::vector<double> by_slot(plan.placement.expert_of_slot.size(), 0.0);
      for (size_t i = 0; i < replicas.slots.size(); ++i) by_slot[replicas.slots[i].idx()] = plan.shares[i];
      absl::StrAppend(&text, ",\n   \"shares\": ", Json(by_slot).dump());
    }
    text += "}";
  }
  return text + "\n]}\n";
}

}  // namespace evenkeel::cli
