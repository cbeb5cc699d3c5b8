// SPDX-License-Identifier: Apache-2.0
//
// PinsInForce: what operators have fixed of a group's placements, by configuration and by Control.Pin, as plans obey it.
//
// Ranks that come, go or are lost go before frozen layers: these are then planned like the others.
//
// Threads:   none; functions that only read.
#pragma once

#include <vector>

#include "algos/base/ids.h"
#include "algos/placement.h"
#include "algos/problem.h"
#include "controller/core/group_state.h"

namespace evenkeel::controller {

// Each once, in the order in which they were asked for. Pins of ranks that take no part hold again when these are back.
std::vector<algos::Pin> PinsInForce(const GroupState& group);

// The operation that froze the layer; null: it may change.
const std::string* FrozenBy(const GroupState& group, LayerId layer);

// Of `problem`, those of the layer that do not hold in `placement`.
int NumPinsUnmet(const algos::Problem& problem, LayerId layer, const algos::Placement& placement);

}  // namespace evenkeel::controller
