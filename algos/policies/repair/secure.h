// SPDX-License-Identifier: Apache-2.0
//
// Secure: spreads one layer's replicas so that its experts survive the losses that a problem names (Problem::survive).
//
// Level by level (protection.h), so that no expert is protected twice while slots last to protect another once; within
// a level the experts with most tokens first. A replica that is missing goes where it does least harm (layer_costs.h):
// into a blank slot, or one whose expert loses no level by it. Where none of these can take it directly, replicas in
// between make room for each other (an augmenting path, the shortest), so that for losses of ranks alone, or of hosts
// alone, no other placement with the same pins protects more. Experts keep a replica, and pinned ones their slots.
//
// Order:     experts with as many tokens by id; equal harm by slot.
#pragma once

#include "algos/base/ids.h"
#include "algos/policies/repair/layer_costs.h"
#include "algos/problem.h"

namespace evenkeel::algos {

struct SecureRules {
  // An expert may lose a level where one with more tokens gains it. Without, no expert ever loses one.
  bool may_take_from_colder = true;
};

// Requires: costs over `problem`, every expert on a living rank, dead ranks blank.
void SecureLayer(const Problem& problem, LayerId layer, SecureRules rules, LayerCosts& costs);

}  // namespace evenkeel::algos
