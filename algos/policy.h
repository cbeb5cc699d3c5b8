// SPDX-License-Identifier: Apache-2.0
//
// Policy: from the loads of a group to a placement of every layer. All policies share these two values.
//
// A policy is a pure function: same Problem, same result, on every machine. Ties go to the lowest id.
//
// Errors:    kInvalidArgument for problems that Validate refuses or that the policy cannot express (named).
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "algos/placement.h"
#include "algos/problem.h"

namespace evenkeel::algos {

// [num_layers] placements.
using Policy = absl::StatusOr<std::vector<Placement>> (*)(const Problem& problem);

struct NamedPolicy {
  std::string_view name;
  std::string_view summary;
  Policy policy;
};

// Every policy, by name, ascending.
std::span<const NamedPolicy> AllPolicies();

// kNotFound with the list of names if there is none of this name.
absl::StatusOr<Policy> FindPolicy(std::string_view name);

}  // namespace evenkeel::algos
