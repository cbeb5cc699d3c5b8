// SPDX-License-Identifier: Apache-2.0
//
// FastLoop: shares of a layer's live slots, solved for recent load and drawn towards those in force.
//
// Threads:   none. Owned by Group. Keeps the solver's scratch, nothing else.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "algos/layer_map.h"
#include "algos/placement.h"
#include "algos/shares.h"

namespace evenkeel::controller {

class FastLoop {
 public:
  // Fewer routed copies than this per rank are noise: shares are not solved for them.
  static constexpr uint64_t kTokensPerRankMin = 64;
  // With fewer than this per rank, chance alone lets realised loads differ from those foretold.
  static constexpr uint64_t kTokensPerRankToJudge = 1024;

  explicit FastLoop(const algos::Shape& shape) : shape_(shape) {}

  // Ranks that take no part: balance is among the others. [num_ranks], or empty: all take part.
  void SetAbsent(std::vector<bool> absent) { absent_ = std::move(absent); }

  struct Choice {
    algos::LayerMap map;
    double imbalance = 0;  // predicted, after rounding; 0 where there was too little load to say
  };
  // The map of `live`. Shares are solved for `tokens` [num_experts] where these are enough; else they stay as in
  // `previous` (null: even), slots that it does not name getting an even part.
  Choice Choose(const algos::Placement& live, const algos::LayerMap* previous, std::span<const uint64_t> tokens);

  // The map of `live` with `shares`, one for each of its replicas.
  Choice Take(const algos::Placement& live, std::span<const double> shares, std::span<const uint64_t> tokens) const;

  // Shares of `live`'s replicas as `previous` has them, slots that it does not name getting an even part.
  algos::Shares SharesIn(const algos::Placement& live, const algos::LayerMap& previous) const;

  bool HasEnough(std::span<const uint64_t> tokens) const { return HasPerRank(tokens, kTokensPerRankMin); }
  bool HasEnoughToJudge(std::span<const uint64_t> tokens) const { return HasPerRank(tokens, kTokensPerRankToJudge); }
  double Predict(const algos::LayerMap& map, std::span<const uint64_t> tokens) const;

 private:
  bool HasPerRank(std::span<const uint64_t> tokens, uint64_t wanted) const;
  algos::Shares SharesIn(const algos::Replicas& replicas, const algos::LayerMap& previous) const;

  const algos::Shape shape_;
  std::vector<bool> absent_;
  algos::SharesSolver solver_;
};

}  // namespace evenkeel::controller
