// SPDX-License-Identifier: Apache-2.0
//
// Static: the placement that the configuration names, whatever the load: maps planned elsewhere and read from a file.
//
// Slots of dead ranks come out blank, so an expert may be left without a replica: what makes policies obey
// constraints (constraints.h) places it.
//
// Errors:    kInvalidArgument where Validate refuses, without placements, and where they do not fit the group: the
//            first field, layer, slot or expert that does not is named.
#pragma once

#include <vector>

#include "absl/status/statusor.h"

#include "algos/placement.h"
#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::algos {

// `placements`: of every layer, also of those that are not planned.
absl::StatusOr<std::vector<Placement>> PlanStatic(const Problem& problem, const std::vector<Placement>& placements);

// The same from PolicyConfig::placements, as listed by the registry: split evenly; no options.
absl::StatusOr<std::vector<LayerPlan>> StaticPolicy(const Problem& problem, const PolicyConfig& config);

}  // namespace evenkeel::algos
