// SPDX-License-Identifier: Apache-2.0
//
// PlanWithFlex: a plan by a Flex that has followed the group, from a copy, so that the Flex goes on meanwhile.
//
// Improves problem.current by at most its problem.moves_max moves in each planned layer; layers that change get shares
// for the load that is expected next. Of the episodes only the newest is looked at. The pace is the caller's.
//
// Errors:    as Flex::ImproveBy has them; kInvalidArgument where there is no current placement.
#pragma once

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"

#include "algos/flex/flex.h"
#include "algos/policies/layer_slices.h"
#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::algos {

absl::StatusOr<std::vector<LayerPlan>> PlanWithFlex(const Flex& flex, const Problem& problem);

// The same in up to `num_slices` slices of the layers, each from a copy of its own: same plan.
absl::StatusOr<std::vector<LayerPlan>> PlanWithFlex(const Flex& flex, const Problem& problem, size_t num_slices,
                                                    const RunAll& run_all);

}  // namespace evenkeel::algos
