// SPDX-License-Identifier: Apache-2.0
//
// The policy `flex`: a Flex (flex.h) that has seen problem.episodes, oldest first, improving problem.current by at most
// problem.moves_max moves in each layer; from greedy's placement where there is none. Shares are for the load that it
// expects next. For one-off plans; who plans again and again keeps a Flex.
//
// Obeys by itself: dead ranks, expert groups (which stay on the node that holds most of them), capacities, costs, pins,
// losses to be survived, budgets (these last). Never puts two replicas of an expert on a rank.
//
// Errors:    kInvalidArgument where Validate refuses, where pins leave no room, for unknown options.
#pragma once

#include <vector>

#include "absl/status/statusor.h"

#include "algos/flex/flex.h"
#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::algos {

absl::StatusOr<std::vector<LayerPlan>> FlexPolicy(const Problem& problem, const PolicyConfig& config);

inline constexpr PolicyOption kFlexOptions[] = {
    {"gain_min", 0.0005, 0, 1, "fall of the predicted imbalance that each move must bring"},
    {"weight_now", 0.5, 0, 1, "weight of the expected load; the rest is for the episodes"},
    {"exaggeration", 1.5, 0, 10, "by how much episodes are drawn away from their mean"},
    {"episodes_max", 12, 1, 1000, "episodes told apart; the most alike are merged"},
};

// What the policy's options make of a Flex.
absl::StatusOr<FlexOptions> FlexOptionsOf(const PolicyConfig& config);

}  // namespace evenkeel::algos
