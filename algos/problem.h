// SPDX-License-Identifier: Apache-2.0
//
// Problem: what a placement is planned from: sizes, loads, what is there now, and who may take part.
//
// Plain values; every policy takes the same ones.
//
// Errors:    Validate names the field that is wrong.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"

#include "algos/base/ids.h"
#include "algos/placement.h"

namespace evenkeel::algos {

// Tokens per expert of every layer over one span of time: tokens[layer * num_experts + expert].
struct Load {
  int num_layers = 0;
  int num_experts = 0;
  std::vector<uint64_t> tokens = {};

  std::span<const uint64_t> layer(LayerId layer) const {
    return std::span(tokens).subspan(layer.idx() * static_cast<size_t>(num_experts), static_cast<size_t>(num_experts));
  }

  friend bool operator==(const Load&, const Load&) = default;
};

// `rank` is to hold a replica of `expert`, whatever the load.
struct Pin {
  LayerId layer;
  ExpertId expert;
  RankId rank;

  friend bool operator==(const Pin&, const Pin&) = default;
};

// What a rank's work costs: per_expert x experts that get tokens there + per_token x tokens. Decoding reads the
// weights of every expert in use, so it is costed by experts too; by default tokens alone count.
struct RankCost {
  double per_expert = 0;  // finite, not negative, not both 0
  double per_token = 1;

  friend bool operator==(const RankCost&, const RankCost&) = default;
};

// Losses that no expert's last replica may be among: any so many ranks at once, any so many hosts at once. Of what is
// out of reach (more than take part, too few slots) as much as possible, for the experts with most tokens first.
struct Survive {
  int ranks = 0;  // not negative
  int hosts = 0;

  bool any() const { return ranks > 0 || hosts > 0; }

  friend bool operator==(const Survive&, const Survive&) = default;
};

struct Problem {
  Shape shape;
  int num_layers = 0;
  int num_nodes = 1;                    // ranks are node-major; must divide num_ranks
  int num_expert_groups = 1;            // groups of experts that routing keeps together; must divide num_experts
  std::vector<Load> episodes = {};      // oldest first; at least one
  std::vector<Placement> current = {};  // [num_layers], or empty: no placement yet; experts may be missing
  std::vector<bool> dead_ranks = {};    // [num_ranks], or empty: all live
  std::vector<LayerId> layers = {};     // those to plan, ascending; empty: all. Others keep `current`.
  std::vector<Pin> pins = {};
  std::vector<int> moves_max = {};      // [num_layers] most moves against `current`, or empty: no limit
  std::vector<double> capacities = {};  // [num_ranks] relative speeds, > 0, or empty: all equal
  RankCost cost = {};
  Survive survive = {};
  std::vector<int32_t> hosts = {};  // [num_ranks] equal for ranks that fall together, or empty: those of a node do

  // Of a layer; no plan makes more than there are slots.
  int MovesMax(LayerId layer) const { return moves_max.empty() ? shape.num_slots() : moves_max[layer.idx()]; }
  bool IsLive(RankId rank) const { return dead_ranks.empty() || !dead_ranks[rank.idx()]; }
  int num_live_ranks() const;
};

// The fields fit each other, the living ranks have room for every expert, and layers that are not planned have
// a current placement to keep.
absl::Status Validate(const Problem& problem);

// The sum of all episodes; a sum beyond 64 bits stays at the largest value.
Load TotalLoad(const Problem& problem);

// `problem.hosts`, or the nodes where that is empty: [num_ranks].
std::vector<int32_t> HostOfRank(const Problem& problem);

// `problem.layers`, or every layer where that is empty.
std::vector<LayerId> PlannedLayers(const Problem& problem);

}  // namespace evenkeel::algos
