// SPDX-License-Identifier: Apache-2.0
//
// RankTables: one layer's map as each rank is to use it where place matters: by the map's shares over the group as a
// whole (rank_shares.h), or one slot for each expert (static_choice.h).
//
// Errors:    none; experts without a live replica stay without one, no other does.
#pragma once

#include <cstdint>
#include <vector>

#include "algos/base/ids.h"
#include "algos/dispatch/rank_shares.h"
#include "algos/dispatch/static_choice.h"
#include "algos/layer_map.h"
#include "algos/placement.h"

namespace evenkeel::algos {

// What tables are made for; vectors are [num_ranks] or empty.
struct Surroundings {
  std::vector<int32_t> hosts = {};     // equal for ranks of a host; empty: each rank has its own
  std::vector<uint8_t> avoided = {};   // nonzero: replicas there are used only where there are no others
  std::vector<uint64_t> traffic = {};  // tokens that each rank sends, in any unit; empty: all alike. 0: takes no part
};

// [num_ranks] each rank's own map. Summed over ranks by traffic, every replica that is not avoided gets its share.
// Requires: Validate(map, shape) is OK but for dead experts.
std::vector<LayerMap> RankMapsOf(const LayerMap& map, const Shape& shape, RoutePreference preference,
                                 const Surroundings& surroundings);

// [num_ranks * num_experts] the slot that each rank sends all its tokens of an expert to, -1 without a live replica.
std::vector<int32_t> StaticTablesOf(const LayerMap& map, const Shape& shape, LayerId layer, StaticRule rule,
                                    const Surroundings& surroundings, uint64_t seed = 42);

}  // namespace evenkeel::algos
