// SPDX-License-Identifier: Apache-2.0
//
// EvenkeelMap: our own form of a map, the only one here that keeps shares and blank slots.
//
//   {"evenkeel_map": 1,             version of this form
//    "num_experts": 64, "num_ranks": 8, "slots_per_rank": 9,
//    "first_layer": 0,              may be left out: the engine's number of the first layer below
//    "layers": [{"slots": [0, 5, -1, ...],          expert of each slot, rank after rank; -1: blank
//                "shares": [1, 0.25, 0, ...]}]}     part of its expert's tokens that each slot gets
//
// An expert's shares add up to 1 (within 1e-6). Without "shares", replicas share evenly. Experts may be in no slot:
// after a rank was lost, some are nowhere.
//
// Errors:    kInvalidArgument, naming the field, or layer and slot.
#pragma once

#include <string>

#include "absl/status/statusor.h"

#include "cli/files/json.h"
#include "cli/files/map_file.h"

namespace evenkeel::cli {

absl::StatusOr<MapFile> ParseEvenkeelMap(const Json& json, const MapHints& hints = {});

std::string RenderEvenkeelMap(const MapFile& map);

}  // namespace evenkeel::cli
