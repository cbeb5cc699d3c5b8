// SPDX-License-Identifier: Apache-2.0
//
// The policy `flex`: a Flex (flex.h) that has seen problem.episodes, oldest first, improving problem.current by at most
// problem.moves_max moves in each layer; from greedy's placement where there is none. Shares are for the load that it
// expects next. For one-off plans; who plans again and again keeps a Flex.
//
// Obeys by itself: dead ranks, expert groups (which stay on the node that holds most of them), capacities, costs, pins,
// budgets. Never puts two replicas of an expert on a rank.
//
// Errors:    kInvalidArgument where Validate refuses, where pins leave no room, for unknown options.
#pragma once

#include <span>
#include <vector>

#include "absl/status/statusor.h"

#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::algos {

absl::StatusOr<std::vector<LayerPlan>> FlexPolicy(const Problem& problem, const PolicyConfig& config);

std::span<const PolicyOption> FlexPolicyOptions();

}  // namespace evenkeel::algos
