// SPDX-License-Identifier: Apache-2.0
//
// ExpertMap: vllm-ascend's static map, expert_map.json:
//   {"moe_layer_count": L,
//    "layer_list": [{"layer_id": 0, "device_count": R,
//                    "device_list": [{"device_id": 0, "device_expert": [expert of each slot]}]}]}
//
// Layers are MoE layers, from 0; devices are ranks. It keeps neither shares nor the number of dense layers.
//
// Errors:    kInvalidArgument, naming the field, or layer and slot.
#pragma once

#include <string>

#include "absl/status/statusor.h"

#include "cli/files/json.h"
#include "cli/files/map_file.h"

namespace evenkeel::cli {

absl::StatusOr<MapFile> ParseExpertMap(const Json& json, const MapHints& hints = {});

absl::StatusOr<std::string> RenderExpertMap(const MapFile& map);

}  // namespace evenkeel::cli
