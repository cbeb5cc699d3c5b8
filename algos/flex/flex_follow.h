// SPDX-License-Identifier: Apache-2.0
//
// FollowWithFlex: the planner (replay/planner.h) that keeps a Flex, tells it of every window and takes up what it says,
// shares included, before each window: what a controller does with its two loops.
#pragma once

#include "absl/status/statusor.h"

#include "algos/flex/flex.h"
#include "algos/problem.h"
#include "algos/replay/planner.h"

namespace evenkeel::algos {

// `problem`: shape, layers, nodes and rules; episodes and current are filled in. kInvalidArgument for a shape that
// cannot be.
absl::StatusOr<Planner> FollowWithFlex(const FlexOptions& options, Problem problem);

}  // namespace evenkeel::algos
