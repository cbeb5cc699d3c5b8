// SPDX-License-Identifier: Apache-2.0
//
// Moves for a whole new placement of all layers: 256 experts in 288 slots on 32 ranks, from the default
// placement to the one that `deepseek` plans. The reference follows the same rules for room and order but looks
// everything up anew for each move, by scanning the slots.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "algos/base/ids.h"
#include "algos/moves.h"
#include "algos/placement.h"
#include "algos/policies/peers/deepseek.h"
#include "algos/problem.h"
#include "tests/bench/bench.h"
#include "tests/bench/planning_input.h"

namespace evenkeel::bench {
namespace {

using algos::Placement;
using algos::Shape;

// Slots of one layer; a wave at a time.
class PlainPlanner {
 public:
  PlainPlanner(const Shape& shape, const Placement& current, const Placement& target)
      : shape_(shape), held_(current.expert_of_slot), target_(target.expert_of_slot) {}

  // The number of moves of all waves.
  int Plan(int moves_per_rank_max) {
    int num_moves = 0;
    while (true) {
      next_ = held_;
      reading_.clear();
      written_.clear();
      for (bool unplaced_only : {true, false}) {
        for (int r = 0; r < shape_.num_ranks; ++r) ServeRank(r, unplaced_only, moves_per_rank_max);
      }
      if (written_.empty() && !MakeSpareRoom()) return num_moves;
      num_moves += static_cast<int>(written_.size());
      held_ = next_;
    }
  }

 private:
  static size_t Size(int value) { return static_cast<size_t>(value); }
  std::multiset<ExpertId> On(const std::vector<ExpertId>& slots, int rank) const {
    const auto first = slots.begin() + rank * shape_.slots_per_rank;
    return {first, first + shape_.slots_per_rank};
  }
  bool IsPlaced(ExpertId expert) const {
    for (int r = 0; r < shape_.num_ranks; ++r) {
      if (On(next_, r).count(expert) > 0 && On(target_, r).count(expert) > 0) return true;
    }
    return false;
  }
  // Replicas that are there now and stay through the wave.
  std::vector<int> StayingReplicas(ExpertId expert) const {
    std::vector<int> slots;
    for (int s = 0; s < shape_.num_slots(); ++s) {
      if (held_[Size(s)] == expert && written_.count(s) == 0) slots.push_back(s);
    }
    return slots;
  }
  bool IsSurplus(int slot) const {
    const int rank = slot / shape_.slots_per_rank;
    int before = 0;
    for (int s = rank * shape_.slots_per_rank; s < slot; ++s) before += held_[Size(s)] == held_[Size(slot)] ? 1 : 0;
    return before >= static_cast<int>(On(target_, rank).count(held_[Size(slot)]));
  }
  bool Write(int slot, ExpertId expert) {
    for (int source : StayingReplicas(expert)) {
      if (source == slot || reading_.count(source) > 0) continue;
      reading_.insert(source);
      written_.insert(slot);
      next_[Size(slot)] = expert;
      return true;
    }
    return false;
  }
  void ServeRank(int rank, bool unplaced_only, int moves_max) {
    const std::multiset<ExpertId> wanted = On(target_, rank);
    for (auto it = wanted.begin(); it != wanted.end(); it = wanted.upper_bound(*it)) {
      if (!it->valid() || On(next_, rank).count(*it) >= wanted.count(*it)) continue;
      if (unplaced_only && IsPlaced(*it)) continue;
      int num_written = 0;
      for (int slot : written_) num_written += slot / shape_.slots_per_rank == rank ? 1 : 0;
      if (num_written >= moves_max) return;
      for (int s = rank * shape_.slots_per_rank; s < (rank + 1) * shape_.slots_per_rank; ++s) {
        if (written_.count(s) > 0 || reading_.count(s) > 0) continue;
        const bool is_free = !held_[Size(s)].valid();
        if (!is_free && (!IsSurplus(s) || StayingReplicas(held_[Size(s)]).size() < 2)) continue;
        if (Write(s, *it)) break;
      }
    }
  }
  bool MakeSpareRoom() {
    for (int v = 0; v < shape_.num_slots(); ++v) {
      if (!held_[Size(v)].valid() || !IsSurplus(v)) continue;
      for (int t = 0; t < shape_.num_slots(); ++t) {
        if (held_[Size(t)].valid() && StayingReplicas(held_[Size(t)]).size() < 2) continue;
        return Write(t, held_[Size(v)]);
      }
    }
    return false;
  }

  const Shape shape_;
  std::vector<ExpertId> held_, next_;
  const std::vector<ExpertId> target_;
  std::set<int> reading_, written_;
};

int Run(int argc, char** argv) {
  const PlanningInput input = PlanningInputOf(argc, argv);
  const algos::Load& load = input.windows[0];
  const Shape shape{load.num_experts, 32, load.num_experts / 32 + 1};
  algos::Problem problem;
  problem.shape = shape;
  problem.num_layers = load.num_layers;
  problem.episodes = {load};
  const auto targets = algos::PlanDeepseek(problem);
  if (!targets.ok()) {
    std::fprintf(stderr, "%s\n", std::string(targets.status().message()).c_str());
    return 1;
  }
  const Placement current = algos::DefaultPlacement(shape);
  algos::MoveLimits limits;
  int num_moves = 0, num_waves = 0, num_rooms = 0, most_waves = 0, bound = 0, num_plain = 0;
  for (const Placement& target : *targets) bound += algos::CountMoves(shape, current, target);
  const auto plan = [&] {
    num_moves = num_waves = num_rooms = most_waves = 0;
    for (const Placement& target : *targets) {
      const auto waves = algos::PlanMoves(shape, current, target, limits);
      if (!waves.ok()) std::abort();
      num_waves += static_cast<int>(waves->size());
      most_waves = std::max(most_waves, static_cast<int>(waves->size()));
      for (const algos::Wave& wave : *waves) {
        num_moves += static_cast<int>(wave.moves.size());
        num_rooms += wave.num_into_spare_room;
      }
    }
  };
  const auto plan_plainly = [&] {
    num_plain = 0;
    for (const Placement& target : *targets)
      num_plain += PlainPlanner(shape, current, target).Plan(limits.moves_per_rank_max);
  };
  for (int moves_per_rank_max : {2, 9}) {
    limits.moves_per_rank_max = moves_per_rank_max;
    Compare(
        {.input = input.name,
         .batch = "all waves of " + std::to_string(load.num_layers) + " layers from the default placement, at most " +
                  std::to_string(moves_per_rank_max) + " moves into a rank in a wave",
         .num_samples = 101,
         .reference_every = 50,
         .goal_us = 5000},
        plan, "the same rules, everything looked up by scanning", plan_plainly);
    std::printf(
        "%d moves (at least %d; reference %d), %d of them into spare room; waves: %d, at most %d in a layer\n\n",
        num_moves, bound, num_plain, num_rooms, num_waves, most_waves);
  }
  return 0;
}

}  // namespace
}  // namespace evenkeel::bench

int main(int argc, char** argv) { return evenkeel::bench::Run(argc, argv); }
