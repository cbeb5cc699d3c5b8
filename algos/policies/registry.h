// SPDX-License-Identifier: Apache-2.0
//
// Registry: every policy, by name.
//
// What is listed obeys dead ranks, groups, capacities, pins and budgets whatever the policy's own definition knows
// of them (constraints.h); the policies as published are in their own modules.
//
// Errors:    kNotFound with the list of names where there is none of this name or alias.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "algos/policy.h"

namespace evenkeel::algos {

// Ascending by name.
std::span<const NamedPolicy> AllPolicies();

// By name or alias.
absl::StatusOr<NamedPolicy> FindPolicy(std::string_view name);

// Plans by the policy of this name.
absl::StatusOr<std::vector<LayerPlan>> PlanBy(std::string_view name, const Problem& problem,
                                              const PolicyConfig& config = {});

}  // namespace evenkeel::algos
