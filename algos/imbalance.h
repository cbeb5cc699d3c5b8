// SPDX-License-Identifier: Apache-2.0
//
// Imbalance: how far a group is from perfect balance, in the one way it is reported everywhere (protocol, rule 32).
//
// Of a layer: the load of its busiest rank over the mean rank load, 1.0 where nothing was routed. Of a model:
// the mean over its layers; beside it the worst layer, and the sum of the layers' maxima over the sum of their
// means, which weighs layers by their tokens. Balancedness is the reciprocal. Ranks that take no part are left
// out by the caller.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "algos/base/ids.h"
#include "algos/layer_map.h"
#include "algos/placement.h"
#include "algos/problem.h"

namespace evenkeel::algos {

// The loads of those ranks that take part. `absent` [num_ranks], or empty: all do.
std::vector<double> Attending(std::vector<double> rank_loads, const std::vector<bool>& absent);
std::vector<uint64_t> Attending(std::vector<uint64_t> rank_loads, const std::vector<bool>& absent);

// Loads of a layer's ranks: at least 1.0.
double LayerImbalance(std::span<const double> rank_loads);
double LayerImbalance(std::span<const uint64_t> rank_loads);

struct ModelImbalance {
  double mean = 1.0;      // over the layers: the imbalance of the model
  double worst = 1.0;     // layer's
  LayerId worst_layer;    // lowest of equal ones; none where there are no layers
  double weighted = 1.0;  // sum of the layers' maxima over the sum of their means

  double balancedness() const { return 1.0 / mean; }
};

// Rank loads of every layer, in order; all of one length.
ModelImbalance ImbalanceOf(std::span<const std::vector<double>> rank_loads);

// Expected tokens per rank with tokens split evenly among replicas: [num_ranks]. Tokens of experts without a
// replica go nowhere.
std::vector<double> EvenRankLoads(const Placement& placement, const Shape& shape,
                                  std::span<const uint64_t> tokens_of_expert);

// A model's imbalance when `load` is served by these placements, split evenly, or by these maps. One per layer.
ModelImbalance ImbalanceOf(std::span<const Placement> placements, const Shape& shape, const Load& load);
ModelImbalance ImbalanceOf(std::span<const LayerMap> maps, const Shape& shape, const Load& load);

// Tokens per rank that slots really got: `tokens_of_slot` [num_slots] summed by rank.
std::vector<uint64_t> RealisedRankLoads(const Shape& shape, std::span<const uint64_t> tokens_of_slot);

}  // namespace evenkeel::algos
