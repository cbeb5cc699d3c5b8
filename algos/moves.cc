// SPDX-License-Identifier: Apache-2.0
#include "algos/moves.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"
#include "algos/base/status_macros.h"
#include "algos/wave_planner.h"

namespace evenkeel::algos {

namespace {

// The experts of one rank, ascending, without blanks.
std::vector<ExpertId> ExpertsOf(const Shape& shape, const std::vector<ExpertId>& expert_of_slot, RankId rank) {
  std::vector<ExpertId> experts;
  for (int i = 0; i < shape.slots_per_rank; ++i) {
    const ExpertId expert = expert_of_slot[shape.SlotAt(rank, i).idx()];
    if (expert.valid()) experts.push_back(expert);
  }
  std::sort(experts.begin(), experts.end());
  return experts;
}

}  // namespace

absl::StatusOr<Wave> NextWave(const MoveState& state, const Placement& target, const MoveLimits& limits) {
  WavePlanner planner;
  return planner.Next(state, target, limits);
}

bool Reached(const MoveState& state, const Placement& target) {
  EVENKEEL_CHECK(target.expert_of_slot.size() == state.use.size());
  std::vector<ExpertId> live = state.expert_of_slot;
  for (size_t s = 0; s < live.size(); ++s) {
    if (state.use[s] == SlotUse::kBusy) return false;
    if (state.use[s] != SlotUse::kLive) live[s] = kNoExpert;
  }
  for (int r = 0; r < state.shape.num_ranks; ++r) {
    if (ExpertsOf(state.shape, live, RankId(r)) != ExpertsOf(state.shape, target.expert_of_slot, RankId(r))) {
      return false;
    }
  }
  return true;
}

absl::StatusOr<std::vector<Wave>> PlanMoves(const Shape& shape, const Placement& current, const Placement& target,
                                            const MoveLimits& limits) {
  MoveState state;
  state.shape = shape;
  state.expert_of_slot = current.expert_of_slot;
  for (ExpertId expert : current.expert_of_slot) {
    state.use.push_back(expert.valid() ? SlotUse::kLive : SlotUse::kFree);
  }
  WavePlanner planner;
  std::vector<Wave> waves;
  while (true) {
    EVENKEEL_ASSIGN_OR_RETURN(Wave wave, planner.Next(state, target, limits));
    if (wave.empty()) return waves;
    for (SlotIdx slot : wave.retire) state.use[slot.idx()] = SlotUse::kFree;
    for (const PlannedMove& move : wave.moves) {
      state.use[move.slot.idx()] = SlotUse::kLive;
      state.expert_of_slot[move.slot.idx()] = move.expert;
    }
    waves.push_back(std::move(wave));
  }
}

int CountMoves(const Shape& shape, const Placement& current, const Placement& target) {
  int num_moves = 0;
  for (int r = 0; r < shape.num_ranks; ++r) {
    const std::vector<ExpertId> held = ExpertsOf(shape, current.expert_of_slot, RankId(r));
    const std::vector<ExpertId> wanted = ExpertsOf(shape, target.expert_of_slot, RankId(r));
    std::vector<ExpertId> missing;
    std::set_difference(wanted.begin(), wanted.end(), held.begin(), held.end(), std::back_inserter(missing));
    num_moves += static_cast<int>(missing.size());
  }
  return num_moves;
}

}  // namespace evenkeel::algos
