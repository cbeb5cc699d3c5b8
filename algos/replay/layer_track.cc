// SPDX-License-Identifier: Apache-2.0
#include "algos/replay/layer_track.h"

#include <optional>
#include <utility>

#include "algos/base/check.h"
#include "algos/base/status_macros.h"

namespace evenkeel::algos {

LayerTrack::LayerTrack(const Shape& shape, Placement initial)
    : shape_(shape), live_(std::move(initial)), replicas_(Invert(live_, shape.num_experts)), target_{live_} {}

void LayerTrack::Aim(LayerPlan plan) {
  in_motion_ = in_motion_ || plan.placement != live_;
  target_ = std::move(plan);
}

absl::Status LayerTrack::Advance(int window, std::span<const uint64_t> tokens, Links* links, const MoveLimits& limits) {
  if (!in_motion_) return absl::OkStatus();
  if (links == nullptr) {
    live_ = target_.placement;
    in_motion_ = false;
    Changed();
    return absl::OkStatus();
  }
  if (!under_way_.empty()) {
    if (window < landing_) return absl::OkStatus();
    Land();
  }
  while (in_motion_ && under_way_.empty()) {
    EVENKEEL_ASSIGN_OR_RETURN(Wave wave, NextWave(StateOfMoves(tokens), target_.placement, limits));
    in_motion_ = !wave.empty();
    if (!in_motion_) break;
    if (!wave.moves.empty()) {
      const std::optional<int> done = links->Begin(wave, shape_, window);
      if (!done) break;
      landing_ = *done;
    }
    for (SlotIdx slot : wave.retire) live_.expert_of_slot[slot.idx()] = kNoExpert;
    under_way_ = std::move(wave.moves);
    Changed();
  }
  return absl::OkStatus();
}

MoveState LayerTrack::StateOfMoves(std::span<const uint64_t> tokens) const {
  MoveState state;
  state.shape = shape_;
  state.expert_of_slot = live_.expert_of_slot;
  state.load_of_slot.assign(live_.expert_of_slot.size(), 0);
  state.use.assign(live_.expert_of_slot.size(), SlotUse::kFree);
  for (size_t s = 0; s < live_.expert_of_slot.size(); ++s) {
    const ExpertId expert = live_.expert_of_slot[s];
    if (!expert.valid()) continue;
    state.use[s] = SlotUse::kLive;
    if (!tokens.empty()) {
      state.load_of_slot[s] = tokens[expert.idx()] / static_cast<uint64_t>(replicas_.num_replicas(expert));
    }
  }
  return state;
}

void LayerTrack::Land() {
  for (const PlannedMove& move : under_way_) live_.expert_of_slot[move.slot.idx()] = move.expert;
  under_way_.clear();
  Changed();
}

void LayerTrack::Changed() {
  replicas_ = Invert(live_, shape_.num_experts);
  ++version_;
}

Shares LayerTrack::PlannedShares() const {
  if (target_.shares.empty() || in_motion_) return {};
  if (live_ == target_.placement) return target_.shares;
  // Within a rank, waves may have put the experts into other slots than the plan names.
  const Replicas planned = Invert(target_.placement, shape_.num_experts);
  EVENKEEL_CHECK(target_.shares.size() == planned.slots.size() && planned.slots.size() == replicas_.slots.size());
  Shares shares(replicas_.slots.size(), 0.0);
  std::vector<bool> is_taken(planned.slots.size(), false);
  for (int e = 0; e < shape_.num_experts; ++e) {
    const size_t first = static_cast<size_t>(planned.offsets[static_cast<size_t>(e)]);
    const size_t end = static_cast<size_t>(planned.offsets[static_cast<size_t>(e) + 1]);
    for (size_t i = first; i < end; ++i) {
      for (size_t j = first; j < end; ++j) {
        if (is_taken[j] || shape_.RankOf(planned.slots[j]) != shape_.RankOf(replicas_.slots[i])) continue;
        is_taken[j] = true;
        shares[i] = target_.shares[j];
        break;
      }
    }
  }
  return shares;
}

}  // namespace evenkeel::algos
