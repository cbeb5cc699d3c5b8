// SPDX-License-Identifier: Apache-2.0
//
// Greedy: replicate the experts that weigh most, pack the heaviest replicas first onto the lightest ranks, and
// stay close to what is there. The default policy.
//
// Layers are planned apart, on the sum of all episodes with tokens split evenly among replicas.
// - No rank gets two replicas of one expert. So a rank never has more replicas than there are experts (in all or
//   on its node), an expert never more than there are living ranks; what that leaves over stays blank.
// - Dead ranks get nothing.
// - Replicas of an expert go to different nodes as far as there are nodes with room. Where num_expert_groups > 1
//   divides by num_nodes and no rank is dead, each group of experts stays on one node, as DeepSeek's
//   hierarchical mode has it.
// - Against `current`, planned contents are given to the ranks and slots that hold most of them already
//   (relabel.h); and a layer keeps its current placement whole where that obeys all of the above and its largest
//   rank load is no worse.
//
// Errors:    kInvalidArgument where Validate refuses, or beyond 2^24 - 1 experts or ranks.
// Order:     heaviest first, equal ones by lowest id; lightest rank first, equal ones by lowest id.
#pragma once

#include <vector>

#include "absl/status/statusor.h"

#include "algos/placement.h"
#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::algos {

absl::StatusOr<std::vector<Placement>> PlanGreedy(const Problem& problem);

// The same, as listed by the registry: split evenly; no options.
absl::StatusOr<std::vector<LayerPlan>> GreedyPolicy(const Problem& problem, const PolicyConfig& config);

}  // namespace evenkeel::algos
