// SPDX-License-Identifier: Apache-2.0
//
// Vllm: the placement that vLLM's only policy, `default`, computes, bit for bit, provided its sorts are stable.
// Source: vllm/distributed/eplb/policy/default.py as of vLLM v0.24 (numpy: PR 28369; slots kept: PR 29499).
//
// Stages and order are those of DeepSeek's EPLB (deepseek.h). What differs: loads and sums of groups are float32
// (summed pairwise, as numpy does), everything that follows is float64; and where there is a current placement,
// each rank's experts are put in order so that those it holds already stay in their slots.
// The load is the sum of all episodes. numpy's own sort settles equal loads as its build has it: not reproduced.
//
// Errors:    kInvalidArgument where Validate refuses, and for dead ranks.
// Order:     heaviest first, equal ones by lowest index; lightest pack first, equal ones by lowest index.
#pragma once

#include <vector>

#include "absl/status/statusor.h"

#include "algos/placement.h"
#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::algos {

absl::StatusOr<std::vector<Placement>> PlanVllm(const Problem& problem);

// The same, as listed by the registry: split evenly; no options.
absl::StatusOr<std::vector<LayerPlan>> VllmPolicy(const Problem& problem, const PolicyConfig& config);

}  // namespace evenkeel::algos
