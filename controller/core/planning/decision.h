// SPDX-License-Identifier: Apache-2.0
//
// Decision: what came of one layer of a plan, and why: the record of every choice to act or not.
//
// Plain values.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "algos/base/ids.h"

namespace evenkeel::controller {

enum class DecisionReason : uint32_t {
  kActs = 0,
  // Not planned at all:
  kBalanced = 1,     // its imbalance is below layer_imbalance_min
  kSteady = 2,       // its load moved less than min_fluctuation since the last decision
  kResting = 3,      // it was rearranged within layer_rest_windows
  kNoMovesLeft = 4,  // its moves of 100 windows are spent; also where the plan needs more than are left
  // Planned:
  kTooLittleLoad = 5,
  kStays = 6,  // nothing would move
  kSmallGain = 7,
  kDoesNotPay = 8,
  kConflict = 9,  // the target cannot be reached
  kBehind = 10,   // layers of greater gain took the plan's layers or bytes
  kFrozen = 11,   // not planned: an operator froze it
};
inline constexpr int kNumDecisionReasons = 12;

// One word for people: "steady", "resting", ...
const char* NameOf(DecisionReason reason);

struct LayerDecision {
  LayerId layer;
  bool act = false;
  DecisionReason why = DecisionReason::kStays;
  std::string reason = {};      // one sentence for people
  double imbalance_before = 0;  // level (rank_cost.h) on the plan's load, shares solved; 0: not known
  double imbalance_after = 0;   // the same with the planned placement; 0 where there is none
  int num_moves = 0;
  double gain_tokens = 0;  // see algos/trigger.h
  double price_tokens = 0;

  friend bool operator==(const LayerDecision&, const LayerDecision&) = default;
};

// Ascending by layer. Shared, as operations are copied at each of their changes.
using LayerDecisions = std::shared_ptr<const std::vector<LayerDecision>>;

}  // namespace evenkeel::controller
