// SPDX-License-Identifier: Apache-2.0
//
// DeepseekVec: SGLang's `deepseek_vec`: replicas go where they lower the sum, over the episodes, of the largest load
// per replica; ranks are then dealt replicas in snake order. Episodes are kept apart.
// Source: python/sglang/srt/eplb/eplb_algorithms/deepseek_vec.py (deepseek_vec and deepseek_vec_hierarchical).
//
// Hierarchical where there are groups of experts that divide by the nodes: groups are packed onto nodes, heaviest
// first, and each node is planned apart; otherwise everything is one node. Arithmetic is float32. Sums over episodes
// are taken in torch's order, so the result is SGLang's, provided its sorts are stable and the tokens of a group of
// experts stay below 2^24 (beyond that torch adds up its experts in another order).
// Two replicas of an expert may meet on one rank; with one slot a rank, slots stay in the order of replication.
//
// Errors:    kInvalidArgument where Validate refuses, and for dead ranks.
// Order:     heaviest first, equal ones by lowest position (node-major order of experts, then of replication).
#pragma once

#include <vector>

#include "absl/status/statusor.h"

#include "algos/placement.h"
#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::algos {

absl::StatusOr<std::vector<Placement>> PlanDeepseekVec(const Problem& problem);

// The same, as listed by the registry: split evenly; no options.
absl::StatusOr<std::vector<LayerPlan>> DeepseekVecPolicy(const Problem& problem, const PolicyConfig& config);

}  // namespace evenkeel::algos
