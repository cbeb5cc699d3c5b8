// SPDX-License-Identifier: Apache-2.0
//
// Scenario: the beginnings that the coordinator's tests share.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "catch2/catch.hpp"

#include "tests/controller/cluster.h"

namespace evenkeel::controller {

inline constexpr const char* kGroup = Cluster::kGroup;

inline Cluster::Options Basic() {
  Cluster::Options options;
  options.settings.defaults.placement_enabled = false;
  return options;
}

// Load on which greedy plans something else than the default placement.
inline std::vector<std::vector<uint64_t>> Skewed(const Cluster& cluster) {
  std::vector<uint64_t> layer(static_cast<size_t>(cluster.options.shape.num_experts), 1000);
  layer[0] = 40000;
  layer[1] = 20000;
  return std::vector<std::vector<uint64_t>>(static_cast<size_t>(cluster.options.num_layers), layer);
}

inline void Start(Cluster& cluster) {
  cluster.AttachAll();
  cluster.Run(absl::Seconds(1));
  REQUIRE_FALSE(cluster.Status().forming);
}

inline void StartUnderLoad(Cluster& cluster) {
  cluster.load = Skewed(cluster);
  Start(cluster);
  cluster.Run(absl::Seconds(4));
}

inline bool Steady(const Cluster& cluster) {
  for (const LayerStatus& layer : cluster.Status().layers) {
    if (layer.phase != "steady") return false;
  }
  return true;
}

// Experts on each rank by the maps in force.
inline std::vector<std::multiset<int>> ByRank(const Cluster& cluster, int layer) {
  const GroupMaps maps = *cluster.coordinator->GetMaps(kGroup);
  std::vector<std::multiset<int>> by_rank(static_cast<size_t>(cluster.options.shape.num_ranks));
  const auto& placement = maps.layers[static_cast<size_t>(layer)].placement.expert_of_slot;
  for (size_t s = 0; s < placement.size(); ++s) {
    by_rank[cluster.options.shape.RankOf(SlotIdx(static_cast<int>(s))).idx()].insert(placement[s].value());
  }
  return by_rank;
}

}  // namespace evenkeel::controller
