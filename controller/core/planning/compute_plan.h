// SPDX-License-Identifier: Apache-2.0
//
// RunPlan: what a ComputePlan asks for, as a pure function of it.
//
// Errors:    those of the policy; kNotFound where there is none of this name.
#pragma once

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"

#include "algos/policies/layer_slices.h"
#include "algos/policy.h"
#include "controller/core/event.h"

namespace evenkeel::controller {

// [num_layers]. In up to `num_slices` slices of the layers, with the same result.
absl::StatusOr<std::vector<algos::LayerPlan>> RunPlan(const ComputePlan& plan, size_t num_slices,
                                                      const algos::RunAll& run_all);
// At one go.
absl::StatusOr<std::vector<algos::LayerPlan>> RunPlan(const ComputePlan& plan);

}  // namespace evenkeel::controller
