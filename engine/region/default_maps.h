// SPDX-License-Identifier: Apache-2.0
//
// DefaultMaps: the maps of epoch 0, by which a group serves before any agent is up (protocol, rule 4).
//
// The same slots, bounds and digest as algos::EvenMap(DefaultPlacement) and algos::DigestOf, without Abseil.
#pragma once

#include "engine/region/region_view.h"

namespace evenkeel::engine {

// floor(rank * E / W) + local slot, modulo E, W being the world; -1 on ranks beyond it.
int DefaultExpert(const RegionSizes& sizes, int rank, int local_slot);

// Fills a bank with the default maps of all layers, at epoch 0 and view 0.
void WriteDefaultMaps(const RegionView& region, uint32_t bank);

}  // namespace evenkeel::engine
