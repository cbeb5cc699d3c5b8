// SPDX-License-Identifier: Apache-2.0
//
// FastLoop: shares of a layer's live slots, solved for recent load and drawn towards those in force.
//
// Shares are solved, and gains and prices judged, by the group's rank costs and capacities: levels (rank_cost.h).
// What is foretold to people is the imbalance of tokens (protocol, rule 32), which is what ranks are seen to get.
//
// Threads:   none. Owned by Group. Keeps the solver's scratch, nothing else.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "algos/layer_map.h"
#include "algos/placement.h"
#include "algos/rank_cost.h"
#include "algos/shares.h"

namespace evenkeel::controller {

class FastLoop {
 public:
  // Fewer routed copies than this per rank are noise: shares are not solved for them.
  static constexpr uint64_t kTokensPerRankMin = 64;
  // With fewer than this per rank, chance alone lets realised loads differ from those foretold.
  static constexpr uint64_t kTokensPerRankToJudge = 1024;

  explicit FastLoop(const algos::Shape& shape, algos::RankRules rules = {}) : shape_(shape), rules_(std::move(rules)) {}

  // Ranks that take no part: balance is among the others. [num_ranks], or empty: all take part.
  void SetAbsent(std::vector<bool> absent) { rules_.absent = std::move(absent); }

  struct Choice {
    algos::LayerMap map;
    double imbalance = 0;  // of tokens, predicted, after rounding; 0 where there was too little load to say
    double level = 0;      // likewise
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
  double Level(const algos::LayerMap& map, std::span<const uint64_t> tokens) const;

 private:
  void Foretell(std::span<const uint64_t> tokens, Choice& choice) const;
  bool HasPerRank(std::span<const uint64_t> tokens, uint64_t wanted) const;
  algos::Shares SharesIn(const algos::Replicas& replicas, const algos::LayerMap& previous) const;

  const algos::Shape shape_;
  algos::RankRules rules_;
  algos::SharesSolver solver_;
};

}  // namespace evenkeel::controller
