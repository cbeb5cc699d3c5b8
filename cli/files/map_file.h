// SPDX-License-Identifier: Apache-2.0
//
// MapFile: placements and shares of a whole group, as files hold them, and what every format has in common.
//
// Formats number slots rank-major, as we do. Some do not say how many ranks or experts there are; hints do.
//
// Errors:    kInvalidArgument, naming layer and slot.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "algos/placement.h"
#include "algos/policy.h"

namespace evenkeel::cli {

struct MapFile {
  algos::Shape shape;
  int first_layer = 0;  // the engine's number of our layer 0: dense layers come before it
  std::vector<algos::LayerPlan> layers = {};

  friend bool operator==(const MapFile&, const MapFile&) = default;
};

// What is known beside the file; 0: nothing. A file that says otherwise is refused.
struct MapHints {
  int num_ranks = 0;
  int num_experts = 0;
  int first_layer = 0;
};

// The map without shares of layers whose slots are given, [num_slots] each, every expert in at least one. Where hints do not say
// how many experts there are, the highest id does.
absl::StatusOr<MapFile> MapOf(std::span<const std::vector<int>> slots_of_layer, const MapHints& hints);

// Sizes within limits.h and as hinted, at least one layer.
absl::Status CheckSizes(const MapFile& map, const MapHints& hints);

// A format that cannot express blank slots or lost experts can express this map.
absl::Status CheckComplete(const MapFile& map, std::string_view format);

// The experts of a layer's slots, -1 where blank.
std::vector<int> SlotsOf(const algos::Placement& placement);

}  // namespace evenkeel::cli
