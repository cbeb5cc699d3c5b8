// SPDX-License-Identifier: Apache-2.0
//
// Constraints: makes any policy obey what its published definition does not know: dead ranks, expert groups that
// stay on a node, capacities, pins, losses to be survived and a budget of moves.
//
// Where a problem has none of these the policy's own result is passed on as it is. Otherwise, each step only as
// far as the policy does not obey by itself (Abilities) or its result not already:
// - Dead ranks: the living ranks are planned as a problem of their own, and the plan put back in place. Where the
//   policy refuses that problem (counts that do not divide), once more with all living ranks as one node; where it
//   refuses that too, all ranks are planned and what is planned for dead ones is left out.
// - Expert groups: nodes are planned apart, each with the groups of experts that belong there (part_problem.h).
//   Where the policy refuses such a part, groups are not kept.
// - Capacities: experts are exchanged between ranks while that lowers the costs (repair.h).
// - Experts without a replica are placed and pins made to hold, with the least harm (repair.h).
// - Survive: replicas are spread as far as there are slots, be it against expert groups (secure.h).
// - Budget: the contents of ranks are relabelled (relabel.h) if capacities allow; a plan that then still needs more
//   moves than the layer's moves_max is approached from the current placement as far as that goes (move_budget.h). What
//   experts without a replica, pins and survival need is done in any case, be it beyond the budget; of survival that
//   which takes protection from no expert.
// A policy that may put two replicas of an expert on one rank may do so here too. A layer whose placement had to
// change loses the policy's shares: it is split evenly.
//
// Errors:    those of Validate and of the policy; kInvalidArgument where pins leave no room for other experts.
#pragma once

#include <vector>

#include "absl/status/statusor.h"

#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::algos {

// What a policy obeys by itself. Pins and budgets are looked for in its result.
struct Abilities {
  bool dead_ranks = false;
  bool groups = false;  // also: leaves them alone on purpose
  bool capacities = false;
  bool survive = false;
};

absl::StatusOr<std::vector<LayerPlan>> PlanWithin(Policy policy, Abilities abilities, const Problem& problem,
                                                  const PolicyConfig& config);

// The same as a policy, for the registry.
template <Policy kPolicy, Abilities kAbilities = Abilities{}>
absl::StatusOr<std::vector<LayerPlan>> Within(const Problem& problem, const PolicyConfig& config) {
  return PlanWithin(kPolicy, kAbilities, problem, config);
}

}  // namespace evenkeel::algos
