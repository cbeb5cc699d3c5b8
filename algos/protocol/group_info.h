// SPDX-License-Identifier: Apache-2.0
//
// GroupInfo: what a group is; equal for all its ranks, checked when they attach.
#pragma once

#include <cstdint>
#include <string>

#include "algos/placement.h"

namespace evenkeel {

// Where tokens are counted (rule 29).
enum class CountPlace : uint32_t {
  kAfterDispatch = 0,  // by the rank that computes them, per local slot
  kRouter = 1,         // by the rank that routes them, per slot of the whole layer
};

// How ranks route (rule 15). Replicated groups get static maps.
enum class Routing : uint32_t { kSender = 0, kReplicated = 1 };

struct GroupInfo {
  std::string name;
  std::string model;             // engines of another model are refused
  uint64_t weights_version = 0;  // only equal versions exchange weights (rule 22)
  uint64_t manifest_digest = 0;  // names, types, sizes and layouts of the per-expert tensors (rule 23)
  algos::Shape shape;            // of the tables: shape.num_ranks is the most ranks that the group may ever have
  int world = 0;                 // ranks [0, world) made the group; those above may join later. 0: all of shape
  int num_layers = 0;
  int num_nodes = 1;
  uint64_t expert_bytes = 0;  // of all tensors of one expert of one layer
  CountPlace count_place = CountPlace::kAfterDispatch;
  Routing routing = Routing::kSender;

  int num_first_ranks() const { return world == 0 ? shape.num_ranks : world; }

  friend bool operator==(const GroupInfo&, const GroupInfo&) = default;
};

}  // namespace evenkeel
