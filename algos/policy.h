// SPDX-License-Identifier: Apache-2.0
//
// Policy: from the loads of a group to a placement of every layer. All policies share these two values.
//
// A policy is a pure function: same Problem, same result, on every machine. Ties go to the lowest id.
//
// Errors:    kInvalidArgument for problems that Validate refuses or that the policy cannot express (named).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "algos/base/ids.h"
#include "algos/placement.h"

namespace evenkeel::algos {

// Tokens per expert of every layer over one span of time: tokens[layer * num_experts + expert].
struct Load {
  int num_layers = 0;
  int num_experts = 0;
  std::vector<uint64_t> tokens;

  std::span<const uint64_t> layer(LayerId layer) const {
    return std::span(tokens).subspan(layer.idx() * static_cast<size_t>(num_experts), static_cast<size_t>(num_experts));
  }
};

struct Problem {
  Shape shape;
  int num_layers = 0;
  int num_nodes = 1;               // ranks are node-major; must divide num_ranks
  int num_expert_groups = 1;       // groups of experts that routing keeps together; must divide num_experts
  std::vector<Load> episodes;      // oldest first; at least one
  std::vector<Placement> current;  // [num_layers], or empty: no placement yet
  std::vector<bool> dead_ranks;    // [num_ranks], or empty: all live
  std::vector<LayerId> layers;     // those to plan, ascending; empty: all. Others keep `current`.
};

absl::Status Validate(const Problem& problem);

// The sum of all episodes.
Load TotalLoad(const Problem& problem);

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
