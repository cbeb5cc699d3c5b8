// SPDX-License-Identifier: Apache-2.0
//
// RankRules: what shares, prices and gains of a group are judged by: the cost of a rank's work over its capacity.
//
// The cost is per_expert x experts used + per_token x tokens (RankCost). For a given placement the first part is fixed:
// maps give each replica a share above 0 (protocol, rule 30), so a rank uses every expert that it holds and that has
// tokens, each once. Shares can but level it out with the second part; only another placement changes it.
//
// Level:     the highest cost over capacity among ranks, over that of perfect balance with every expert in use on one
//            rank alone. With tokens alone and equal capacities it is the imbalance of protocol rule 32; unlike a
//            maximum over a mean it does not call replicas that cost something an improvement of the mean.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "algos/layer_map.h"
#include "algos/placement.h"
#include "algos/problem.h"

namespace evenkeel::algos {

struct RankRules {
  RankCost cost = {};
  std::vector<double> capacities = {};  // [num_ranks] > 0, or empty: all equal
  std::vector<bool> absent = {};        // [num_ranks] ranks that hold nothing, or empty: none

  double capacity(size_t rank) const { return capacities.empty() ? 1.0 : capacities[rank]; }
};

RankRules RulesOf(const Problem& problem);

// Levels are imbalances: nothing but tokens costs, and those that take part are equally fast.
bool CountsTokensAlone(const RankRules& rules);

// Cost over capacity of each rank; 0 of absent ones. `shares` parallel to replicas.slots; empty: even.
std::vector<double> RankCosts(const RankRules& rules, const Shape& shape, const Replicas& replicas,
                              std::span<const double> shares, std::span<const uint64_t> tokens);
std::vector<double> RankCosts(const RankRules& rules, const Shape& shape, const LayerMap& map,
                              std::span<const uint64_t> tokens);

// At least 1; tokens of experts without a replica go nowhere. 1 where there are none.
double LevelOf(const RankRules& rules, const Shape& shape, const Replicas& replicas, std::span<const double> shares,
               std::span<const uint64_t> tokens);
double LevelOf(const RankRules& rules, const Shape& shape, const LayerMap& map, std::span<const uint64_t> tokens);

}  // namespace evenkeel::algos
