// SPDX-License-Identifier: Apache-2.0
//
// Trigger: is a planned placement of a layer worth its moves?
//
// Imbalances are levels (rank_cost.h), tokens those of perfect balance where ranks differ or experts in use cost.
// The gain is what the busiest rank is spared over the horizon: the fall in predicted imbalance x the mean rank's
// tokens per second x the horizon. The price is what a rank would lose if it stood still while the busiest link
// carries its bytes: imbalance now x the mean rank's tokens per second x seconds on that link. Both are in
// tokens; a layer acts when the imbalance falls by at least min_gain and the gain is larger than the price.
// Layers are judged apart, as links are shared: the prices of layers add up as their bytes do.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "algos/base/ids.h"

namespace evenkeel::algos {

struct TriggerOptions {
  double min_gain = 0.02;                               // of imbalance
  absl::Duration horizon = absl::Minutes(10);           // how long a placement is expected to stay right
  uint64_t link_bytes_per_second = uint64_t{10} << 30;  // of one rank's link; > 0
};

// What is known of one layer, its shares solved both now and after.
struct LayerOutlook {
  LayerId layer;
  double imbalance_now = 1.0;      // predicted with the current placement
  double imbalance_planned = 1.0;  // predicted with the planned one
  double tokens_per_second = 0;    // routed copies of this layer, over all ranks
  int num_ranks = 0;               // that share them; > 0
  int num_moves = 0;
  uint64_t link_bytes = 0;  // over the busiest link: the most that one rank receives or sends
};

struct LayerDecision {
  LayerId layer;
  bool act = false;
  double gain_tokens = 0;
  double price_tokens = 0;
  std::string reason;  // one sentence for people

  friend bool operator==(const LayerDecision&, const LayerDecision&) = default;
};

LayerDecision DecideLayer(const LayerOutlook& outlook, const TriggerOptions& options);

// In the order given.
std::vector<LayerDecision> DecideLayers(std::span<const LayerOutlook> outlooks, const TriggerOptions& options);

}  // namespace evenkeel::algos
