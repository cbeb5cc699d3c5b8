// SPDX-License-Identifier: Apache-2.0
//
// ElasticityAware: SGLang's planner for groups that lose ranks: DeepSeek's EPLB, and over the living ranks alone,
// flat, once one is dead.
// Source: python/sglang/srt/eplb/eplb_algorithms/elasticity_aware.py.
//
// With all ranks alive it is `deepseek` (hierarchical where the groups of experts divide by the nodes). With dead
// ranks the living ones are planned as one node without groups, and their blocks of slots put back where those
// ranks are. SGLang writes logical expert 0 into the slots of dead ranks; here they are blank.
//
// Errors:    kInvalidArgument where Validate refuses.
#pragma once

#include <vector>

#include "absl/status/statusor.h"

#include "algos/placement.h"
#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::algos {

absl::StatusOr<std::vector<Placement>> PlanElasticityAware(const Problem& problem);

// The same, as listed by the registry: split evenly; no options.
absl::StatusOr<std::vector<LayerPlan>> ElasticityAwarePolicy(const Problem& problem, const PolicyConfig& config);

}  // namespace evenkeel::algos
