// SPDX-License-Identifier: Apache-2.0
//
// Layer slices: a problem cut by layers, so that a shell with several threads can plan the parts at the same time.
//
// The result is the same as that of planning the whole, however many slices there are and in whatever order they are
// planned: only policies are cut for which the plan of a layer depends on that layer alone
// (NamedPolicy::plans_layers_apart). Where that is not so, where there is nothing to cut, or where a slice is
// refused, the whole is planned.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "algos/base/ids.h"
#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::algos {

// Some of the planned layers as a problem of their own, numbered from 0.
struct LayerSlice {
  std::vector<LayerId> layers;  // in the whole, ascending
  Problem problem;
};

// The layers that are to be planned, cut into at most `num_slices` slices of equal size up to one layer.
// Requires: Validate(problem) is OK; num_slices > 0.
std::vector<LayerSlice> SliceLayers(const Problem& problem, size_t num_slices);

// What the slices' plans come to; layers in none keep their current placement. Requires: as many as slices.
std::vector<LayerPlan> MergeSlices(const Problem& problem, std::span<const LayerSlice> slices,
                                   std::vector<std::vector<LayerPlan>> plans);

// Calls the function once for each index below the count, from any threads, and returns when all calls have.
using RunAll = std::function<void(size_t count, const std::function<void(size_t)>& task)>;

// As PlanBy (registry.h), in up to `num_slices` slices.
absl::StatusOr<std::vector<LayerPlan>> PlanInSlices(std::string_view name, const Problem& problem,
                                                    const PolicyConfig& config, size_t num_slices,
                                                    const RunAll& run_all);

}  // namespace evenkeel::algos
