// SPDX-License-Identifier: Apache-2.0
//
// Trtllm: the greedy of TensorRT-LLM's MoE load balancer: replicate what weighs most, then pack the heaviest
// replicas first.
// Source: doReplication and doPlacement in cpp/tensorrt_llm/runtime/moeLoadBalancer/moeLoadBalancer.cpp.
//
// Layers are planned apart, on the sum of all episodes as float32 load factors; what follows is in double. A layer
// without load spreads its replicas evenly, the remainder to the lowest ids. Any number of replicas of an expert may
// meet on one rank; nodes, groups and the current placement are not looked at.
//
// Errors:    kInvalidArgument where Validate refuses, and for dead ranks.
// Order:     replicas go to the heaviest expert, equal ones by HIGHEST id; are packed heaviest first, equal ones by
//            lowest id; and onto the lightest rank, equal ones by lowest id, into its next free slot.
#pragma once

#include <vector>

#include "absl/status/statusor.h"

#include "algos/placement.h"
#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::algos {

absl::StatusOr<std::vector<Placement>> PlanTrtllm(const Problem& problem);

// The same, as listed by the registry: split evenly; no options.
absl::StatusOr<std::vector<LayerPlan>> TrtllmPolicy(const Problem& problem, const PolicyConfig& config);

}  // namespace evenkeel::algos
