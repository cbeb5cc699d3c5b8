// SPDX-License-Identifier: Apache-2.0
//
// LayerTrack: one layer of a replay, from window to window: what its maps hold, and the way to what it is to hold.
//
// Without links a plan is in force at once. With links the layer goes by waves (moves.h): a wave's slots leave the
// maps before a window, its moves take until a later one, and the next wave's slots leave with their arrival. So a
// slot that is on its way is in no map for whole windows, one at least. A new target takes over after the wave under
// way.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"

#include "algos/layer_map.h"
#include "algos/moves.h"
#include "algos/placement.h"
#include "algos/policy.h"
#include "algos/replay/links.h"

namespace evenkeel::algos {

class LayerTrack {
 public:
  LayerTrack(const Shape& shape, Placement initial);

  // `plan` is from now on what the layer is to have. Requires: a valid placement; shares parallel to its replicas.
  void Aim(LayerPlan plan);

  // What happens before `window`; `tokens` [num_experts] is the last load known, empty before the first.
  // `links` is none where moves take no time.
  absl::Status Advance(int window, std::span<const uint64_t> tokens, Links* links, const MoveLimits& limits);

  // Slots in the maps now; those retired are blank.
  const Placement& live() const { return live_; }
  const Replicas& replicas() const { return replicas_; }
  bool in_motion() const { return in_motion_; }
  // What the layer holds or is on its way to.
  const Placement& goal() const { return in_motion_ ? target_.placement : live_; }
  // Of the live replicas, as the plan in force has them; empty where it splits evenly, or while in motion.
  Shares PlannedShares() const;
  bool HasPlannedShares() const { return !target_.shares.empty(); }
  // Grows whenever live() changes.
  int version() const { return version_; }

 private:
  MoveState StateOfMoves(std::span<const uint64_t> tokens) const;
  void Land();
  void Changed();

  Shape shape_;  // constant
  Placement live_;
  Replicas replicas_;  // of live_
  LayerPlan target_;
  bool in_motion_ = false;
  std::vector<PlannedMove> under_way_;
  int landing_ = 0;  // the window that finds them done
  int version_ = 0;
};

}  // namespace evenkeel::algos
