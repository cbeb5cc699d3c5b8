// SPDX-License-Identifier: Apache-2.0
//
// ProblemOptions: the options by which offline commands are told of a group and of a policy.
//
// Errors:    kInvalidArgument naming the option.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "algos/policies/registry.h"
#include "algos/problem.h"
#include "cli/arguments.h"

namespace evenkeel::cli {

inline constexpr Option kGroupOptions[] = {
    {"ranks", "R", "how many ranks serve the model"},
    {"slots-per-rank", "S", "how many experts' weights of a layer a rank has room for"},
    {"nodes", "N", "how many nodes the ranks are on, node after node (default 1)"},
    {"expert-groups", "G", "groups of experts that routing keeps together (default 1)"},
    {"dead-ranks", "LIST", "ranks that take no part, for example 0,3-5"},
    {"pin", "L:E:R,...", "layer L's expert E is to have a replica on rank R"},
    {"capacities", "C,C,...", "relative speed of each rank (default: all equal)"},
    {"survive-ranks", "K", "any K ranks may be lost and no expert is (default 0)"},
    {"survive-hosts", "K", "likewise any K hosts (default 0)"},
    {"hosts", "H,H,...", "the host of each rank, by number (default: nodes are hosts)"},
    {"cost", "A,B", "cost of a rank: A for each expert in use + B for each token (default 0,1)"},
};

inline constexpr Option kPolicyOptions[] = {
    {"policy", "P", "who plans; 'keelctl policies' lists them"},
    {"policy-config", "K=V,...", "options of the policy"},
};

// Options of a command out of several lists.
template <size_t A, size_t B>
constexpr std::array<Option, A + B> Joined(const std::array<Option, A>& first, const Option (&second)[B]) {
  std::array<Option, A + B> all{};
  for (size_t i = 0; i < A; ++i) all[i] = first[i];
  for (size_t i = 0; i < B; ++i) all[A + i] = second[i];
  return all;
}

// What is known of the group's sizes beside the options; 0: nothing.
struct KnownSizes {
  int num_layers = 0;
  int num_experts = 0;
  int num_ranks = 0;  // where --ranks is not given; if both are, they must agree
  int slots_per_rank = 0;
};

// A problem without episodes and current placements, of the options of kGroupOptions. It still has to be validated.
absl::StatusOr<algos::Problem> ProblemFrom(const Arguments& arguments, const KnownSizes& known);

// "flex", where there is such a policy.
std::string_view DefaultPolicyName();

// --policy-config as the policies take it: "a=1,b=0.5"; whether the policy knows them it says itself.
absl::StatusOr<algos::PolicyConfig> PolicyConfigFrom(const Arguments& arguments);

// The numbers of "1,0.5,2", of which there must be `count`.
absl::StatusOr<std::vector<double>> NumbersFrom(const Arguments& arguments, std::string_view name, size_t count);

}  // namespace evenkeel::cli
