// SPDX-License-Identifier: Apache-2.0
//
// Move budget: from a placement towards a planned one, as far as a number of moves goes.
//
// A rank's content may become any mixture of what it has and what it is to have, as long as every expert keeps a
// replica. A move is a slot that receives an expert which its rank did not hold (moves.h); taking an expert out
// of a rank, or leaving a slot blank, is none. Chosen is the mixture within the budget whose largest rank cost
// (layer_costs.h) is lowest, and among those one with fewest moves: of all mixtures where there are at most
// kMixturesMax, else of those that a greedy walk meets.
//
// The walk: each step takes the changes, of those that touch the busiest ranks, that lower the potential most for
// each move. A change replaces one expert; where that was its last replica, it is put where the plan has it, and
// so on. Such a chain ends: each link fills a slot as planned, and the plan as a whole has every expert. It is
// dropped where it is longer than the budget. So after every step every expert is placed and the budget held.
//
// Order:     ties go to the lowest rank, slot, expert.
#pragma once

#include <functional>
#include <vector>

#include "algos/base/ids.h"
#include "algos/placement.h"
#include "algos/policies/repair/layer_costs.h"
#include "algos/problem.h"

namespace evenkeel::algos {

inline constexpr int kMixturesMax = 4'000;

// `costs` holds the placement to start from and ends with the one chosen. Moves are counted from `current` and are
// at most `moves_max`, or as many as the start has if those are more.
// Where there is an `is_allowed`, it is asked about every mixture that would be chosen; it must allow the start.
// Requires: every expert in the start and in `planned`; both blank on dead ranks.
void MoveTowards(const Problem& problem, const Placement& current, const Placement& planned, int moves_max,
                 LayerCosts& costs, const std::function<bool(const Placement&)>& is_allowed = nullptr);

}  // namespace evenkeel::algos
