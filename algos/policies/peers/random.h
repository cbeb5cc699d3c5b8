// SPDX-License-Identifier: Apache-2.0
//
// Random: vllm-ascend's policy 0: in every layer, two ranks exchange what their last slots hold. It looks at no load:
// it is there to see moves happen.
// Source: vllm_ascend/eplb/core/policy/policy_random.py, which draws two ranks in a comment and takes 3 and 1 in its
// code. Here they are drawn, from the option `seed` and the number of the layer; an exchange that would put an expert
// on a rank a second time is not made (nor does the peer carry it out), nor is there one with a single rank.
//
// Errors:    kInvalidArgument where Validate refuses, and for dead ranks. Without `current`, the default placement
//            stands for it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

#include "algos/placement.h"
#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::algos {

inline constexpr PolicyOption kRandomOptions[] = {
    {"seed", 42, 0, 9007199254740992.0, "what the ranks are drawn from; whole"}};

absl::StatusOr<std::vector<Placement>> PlanRandom(const Problem& problem, uint64_t seed);

// The same, as listed by the registry: split evenly.
absl::StatusOr<std::vector<LayerPlan>> RandomPolicy(const Problem& problem, const PolicyConfig& config);

}  // namespace evenkeel::algos
