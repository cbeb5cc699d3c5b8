// SPDX-License-Identifier: Apache-2.0
//
// Deepseek: the placement that DeepSeek's EPLB computes, bit for bit, provided its sorts are stable.
//
// Layers are planned apart. Groups of experts are packed onto nodes (hierarchical mode; where the groups do not
// divide by the nodes, everything is one node: global mode), each node's experts are replicated by load per
// replica, and the replicas packed onto the node's GPUs. Arithmetic is float32 as there; the load of a group is
// the sum of its experts from left to right. Two replicas of an expert may meet on one rank, current placements
// are ignored, and dead ranks cannot be expressed: `greedy` is for those.
//
// Errors:    kInvalidArgument where a count does not divide as the algorithm needs, with both counts.
// Order:     heaviest first, equal ones by lowest index; lightest pack first, equal ones by lowest index.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "algos/placement.h"
#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::algos {

struct DeepseekOptions {
  int num_replicas = 0;  // physical experts of a layer; must divide by num_gpus
  int num_groups = 1;
  int num_nodes = 1;
  int num_gpus = 1;
};

// What DeepSeek's single entry point returns, flattened.
struct DeepseekMaps {
  std::vector<int32_t> physical_to_logical;  // [layers][num_replicas]
  std::vector<int32_t> logical_to_physical;  // [layers][experts][width], by replica rank, -1 beyond the count
  std::vector<int32_t> logical_count;        // [layers][experts]
  int width = 0;                             // largest count over all layers
};

absl::StatusOr<DeepseekMaps> RebalanceExperts(const Load& load, const DeepseekOptions& options);

// The policy `deepseek`: the placements alone, planned on the sum of all episodes.
absl::StatusOr<std::vector<Placement>> PlanDeepseek(const Problem& problem);

// The same, as listed by the registry: split evenly; no options.
absl::StatusOr<std::vector<LayerPlan>> DeepseekPolicy(const Problem& problem, const PolicyConfig& config);

}  // namespace evenkeel::algos
