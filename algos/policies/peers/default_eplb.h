// SPDX-License-Identifier: Apache-2.0
//
// DefaultEplb: vllm-ascend's policy 1: replicate what weighs most, deal the extra replicas rank by rank, then pack
// one replica of every expert, heaviest first, onto the lightest rank that does not hold it.
// Source: vllm_ascend/eplb/core/policy/policy_default_eplb.py (original_compute_balanced_pack_redundancy and
// constraint_expert_local_exchange).
//
// Layers are planned apart, on the sum of all episodes, in float64. No rank gets two replicas of an expert: where
// packing left no other place, one of the two is then exchanged for the expert of the most similar weight. Against
// `current`, experts that stay on a rank keep their (first) slot there. The peer's flag that asks for a gain of 5 %
// is not part of it: its worker does not look at it either.
//
// Errors:    kInvalidArgument where Validate refuses, for dead ranks, for more slots a rank than experts, and where no
//            expert is left to exchange a second replica for.
// Order:     heaviest first; equal ones in the reverse of the order in which the last step left them, as a stable
//            sort read backwards has it; lightest rank first, equal ones by lowest id.
#pragma once

#include <vector>

#include "absl/status/statusor.h"

#include "algos/placement.h"
#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::algos {

absl::StatusOr<std::vector<Placement>> PlanDefaultEplb(const Problem& problem);

// The same, as listed by the registry: split evenly; no options.
absl::StatusOr<std::vector<LayerPlan>> DefaultEplbPolicy(const Problem& problem, const PolicyConfig& config);

}  // namespace evenkeel::algos
