// SPDX-License-Identifier: Apache-2.0
//
// Repair: makes one layer's placement hold every expert and every pin, with the least harm.
//
// "Least harm": of all ways to make one more pin hold, or to place one more missing expert, that which leaves the
// lowest potential (layer_costs.h) without doubling an expert on a rank, if there is one. A missing pin takes a
// blank slot of its rank, the slot of an expert with other replicas, or changes places with a replica of its own
// elsewhere; only where none of these is there does the displaced expert take the slot of a third one. Slots of
// dead ranks are never used.
//
// Order:     pins first, as listed, then missing experts by id; ties go to the lowest slot.
#pragma once

#include <vector>

#include "absl/status/status.h"

#include "algos/base/ids.h"
#include "algos/placement.h"
#include "algos/policies/repair/layer_costs.h"
#include "algos/problem.h"

namespace evenkeel::algos {

// Pins and other experts together find room: kInvalidArgument, naming layer or rank, where they do not. With it,
// repairs always succeed.
absl::Status ValidateRoomForPins(const Problem& problem);

// Blanks the slots of dead ranks.
void BlankDeadRanks(const Problem& problem, Placement& placement);

// Pins hold and every expert is on a living rank. Requires: ValidateRoomForPins, costs over `problem`, dead ranks
// blank.
void RepairLayer(const Problem& problem, LayerId layer, LayerCosts& costs);

// Blank slots of living ranks get replicas of the experts with the most tokens per replica that the rank does not
// hold, for policies that know no blank slots.
void FillBlanks(const Problem& problem, LayerCosts& costs);

// Exchanges experts between ranks while the potential falls, for policies that plan for ranks of equal speed.
// Within nodes only, where `within_nodes`.
void FitToCapacities(const Problem& problem, LayerId layer, bool within_nodes, LayerCosts& costs);

}  // namespace evenkeel::algos
