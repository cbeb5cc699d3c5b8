// SPDX-License-Identifier: Apache-2.0
//
// Native forms: one layer's map as the tables that inference engines keep, all derived from the one LayerMap.
//
// Every table is indexed by logical expert or by slot of the whole layer and sized by the one Shape; -1 stands
// for "none". Dense layers have no map, hence no tables. Engines that only know "index modulo count" get unequal
// shares as repeated entries: an expert's row has between one entry a replica and `width`, the number whose
// largest-remainder rounding comes closest to the shares (the smallest of equal ones), spread evenly over it.
//
// Errors:    Render* answer kInvalidArgument for a map that does not fit the shape, kResourceExhausted for an
//            expert with more replicas than `width`. Check* answer kInternal and name the first wrong place: they
//            are run after creation and after every applied map.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "algos/base/ids.h"
#include "algos/layer_map.h"
#include "algos/placement.h"

namespace evenkeel::algos {

// As all ranks see it (vLLM, SGLang).
struct NativeMaps {
  int width = 0;
  std::vector<int32_t> physical_to_logical;  // [num_slots]: expert, -1 where the map names no such slot
  std::vector<int32_t> logical_to_physical;  // [num_experts * width]: slots, -1 from replica_count on
  std::vector<int32_t> replica_count;        // [num_experts]: entries in use; 0 without a live replica

  friend bool operator==(const NativeMaps&, const NativeMaps&) = default;
};

// As one rank sees it (vLLM's expert_map, vllm-ascend's log2phy).
struct RankMaps {
  std::vector<int32_t> expert_map;  // [num_experts]: the rank's local slot, -1 where it has none
  std::vector<int32_t> log2phy;     // [num_experts]: the slot that this rank's tokens go to

  friend bool operator==(const RankMaps&, const RankMaps&) = default;
};

struct NativeOptions {
  int width = 0;  // of logical_to_physical; fixed for ever where engines capture it in graphs; at most 65535
  MapRules rules = {};
};

absl::StatusOr<NativeMaps> RenderNativeMaps(const LayerMap& map, const Shape& shape, const NativeOptions& options);

// log2phy is entry (rank modulo replica_count) of the expert's row, so that ranks share replicas as tokens do.
// Requires: `native` rendered from `map` for `shape`; rank < num_ranks.
RankMaps RenderRankMaps(const NativeMaps& native, const LayerMap& map, const Shape& shape, RankId rank);

// Lengths, ids, every live replica in its expert's row and nothing else, -1 beyond, shares met to within one
// entry a replica.
absl::Status CheckNativeMaps(const NativeMaps& native, const LayerMap& map, const Shape& shape);
absl::Status CheckRankMaps(const RankMaps& maps, const LayerMap& map, const Shape& shape, RankId rank);

// What a generated first placement promises: every slot holds an expert, every expert has a slot, and without
// redundancy slot s holds expert s. kInternal otherwise.
absl::Status CheckInitialPlacement(const Placement& placement, const Shape& shape);

}  // namespace evenkeel::algos
