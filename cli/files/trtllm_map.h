// SPDX-License-Identifier: Apache-2.0
//
// TrtllmMap: TensorRT-LLM's moe_load_balancer.yaml:
//   num_slots: 72
//   initial_global_assignments:
//     3: [expert of each slot]      by the model's own number of the layer, dense ones counted
//   layer_updates_per_iter: 0       may be left out; 0: static
//
// Block and flow style are both read; anchors, aliases, tags, several documents, unknown and repeated keys are
// refused. It does not say how many ranks there are. Layers must follow each other.
//
// Errors:    kInvalidArgument with line and column, or layer and slot.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

#include "cli/files/map_file.h"

namespace evenkeel::cli {

// Requires of hints: num_ranks. The file itself says the first layer.
absl::StatusOr<MapFile> ParseTrtllmMap(std::string_view bytes, const MapHints& hints);

absl::StatusOr<std::string> RenderTrtllmMap(const MapFile& map);

}  // namespace evenkeel::cli
