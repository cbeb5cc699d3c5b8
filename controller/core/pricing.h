// SPDX-License-Identifier: Apache-2.0
//
// Pricing: of a computed plan, which layers are worth carrying out, and why the others are not.
//
// Threads:   none; pure functions.
#pragma once

#include <string>
#include <vector>

#include "algos/base/ids.h"
#include "algos/placement.h"
#include "algos/policy.h"
#include "algos/problem.h"
#include "controller/core/event.h"
#include "controller/core/fast_loop.h"
#include "controller/core/slot_table.h"

namespace evenkeel::controller {

struct LayerVerdict {
  LayerId layer;
  bool act = false;
  algos::Placement target;
  double imbalance_before = 0;  // predicted on the plan's load, shares solved; 0 where there was too little
  double imbalance_after = 0;
  int num_moves = 0;
  std::string reason;  // why, or why not
};

struct PriceRules {
  bool force = false;  // an operator asked: act wherever anything moves
};

// One verdict for each layer that was planned, ascending. Requires: one valid plan for each layer.
std::vector<LayerVerdict> PriceOf(const algos::Problem& problem, const std::vector<algos::LayerPlan>& planned,
                                  const GroupInfo& info, const GroupSettings& settings, const SlotTable& slots,
                                  FastLoop& fast_loop, PriceRules rules);

// "3 of 8 layers, 12 moves" and the first reason against, for people.
std::string Summarise(const std::vector<LayerVerdict>& verdicts);

}  // namespace evenkeel::controller
