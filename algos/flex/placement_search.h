// SPDX-License-Identifier: Apache-2.0
//
// PlacementSearch: changes one layer's placement, few slots at a time, so that shares can even out many loads.
//
// A placement is judged by what shares would make of each episode's load: the p-norm (p = 128) of the ranks' levels
// (level_solver.h), which stands for the highest level and still tells a few full ranks from many. The measure
// of a placement is the weighted mean of that over the episodes: 1 is perfect balance in each of them.
//
// A step is either a replacement (a slot that holds a redundant replica, or nothing, gets another expert: one move)
// or an exchange (two ranks swap an expert each: two moves). Each step takes, of the candidates that a linear
// estimate finds best, the one whose measure, solved exactly, is least. A step must lower the measure by `gain_min`
// for each of its moves. Where none does, pairs of replacements may be tried (num_openings).
//
// Keeps:     every expert's last replica; pins; no expert twice on a rank; nothing on ranks that take no part; experts
//            within their homes; the level at which each expert survives losses (protection.h). Between nearly equal
//            candidates, replicas of an expert go to different hosts.
// Order:     candidates by estimate, then rank, slot, expert: same input, same steps.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "algos/base/ids.h"
#include "algos/flex/layer_slots.h"
#include "algos/flex/level_solver.h"
#include "algos/policies/repair/protection.h"

namespace evenkeel::algos {

// What a rank's mean load is scaled to.
inline constexpr int64_t kMeanRankCost = int64_t{1} << 20;

struct WeightedLoad {
  std::vector<int64_t> tokens = {};  // [num_experts], scaled so that a rank's mean is about kMeanRankCost
  int64_t replica_cost = 0;          // in the same unit
  double weight = 0;                 // all weights add up to 1
};

// Of a group, the same for all its layers.
struct SearchGround {
  std::vector<int32_t> speeds = {};        // [num_ranks], 0: takes no part
  std::vector<int32_t> node_of_rank = {};  // [num_ranks]
  std::vector<int32_t> host_of_rank = {};  // [num_ranks]
  int num_hosts = 1;                       // with ranks that take part
};

struct SearchLimits {
  int moves_max = 0;
  double gain_min = 0.001;  // of the measure, for each move
  int num_candidates = 24;  // solved exactly in a step, of each kind
  // Where no step is left: replacements that are tried as the first of two, of which the first may cost more than it
  // brings.
  int num_openings = 0;
};

class PlacementSearch {
 public:
  // Requires: `ground` outlives this.
  explicit PlacementSearch(const SearchGround& ground) : ground_(ground), solver_(ground.speeds) {}

  struct Task {
    std::span<const WeightedLoad> episodes;
    std::span<const uint8_t> pinned = {};     // [num_slots] 1: keeps what it holds; empty: none
    std::span<const int32_t> home_node = {};  // [num_experts] the node that may hold it, -1: any; empty: any
    const Protection* protection = nullptr;  // with `levels` [num_experts] below which no expert is to fall; null: none
    std::span<const int> levels = {};
  };

  double Measure(const Shape& shape, const Placement& placement, const Task& task);

  // Improves `slots`; returns the moves made. `measure` comes out as the measure then.
  int Improve(const Task& task, const SearchLimits& limits, LayerSlots& slots, double& measure);

 private:
  struct Change {
    SlotIdx slot;
    ExpertId expert;
    SlotIdx other_slot;  // of an exchange: gets what `slot` held
    double estimate = 0;
  };

  void Survey(const LayerSlots& slots, const Task& task);
  void SurveyAdditions(const LayerSlots& slots, size_t k, const WeightedLoad& load);
  // Those whose estimate is above `estimate_min`.
  void FindReplacements(const LayerSlots& slots, const Task& task, size_t num_kept, double estimate_min = 0);
  bool MakePair(const Task& task, const SearchLimits& limits, LayerSlots& slots);
  void FindExchanges(const LayerSlots& slots, const Task& task, size_t num_kept);
  double ExchangeGain(const Task& task, int32_t from, int32_t to, ExpertId away, ExpertId back,
                      const LayerSlots& slots) const;
  double LossOf(const Task& task, ExpertId expert, int32_t rank, const LayerSlots& slots) const;
  bool MayTake(const LayerSlots& slots, const Task& task, int32_t rank, ExpertId expert) const;
  bool IsFree(const LayerSlots& slots, const Task& task, SlotIdx slot) const;
  // Whether the expert keeps its level without the replica on `left`, and with one on `entered` (-1: none).
  bool StaysProtected(const LayerSlots& slots, const Task& task, ExpertId expert, int32_t left, int32_t entered) const;
  int Crowding(const LayerSlots& slots, ExpertId expert) const;
  int CrowdingChange(const LayerSlots& slots, const Change& change) const;
  void KeepBest(size_t num_kept);
  void Apply(const Change& change, LayerSlots& slots) const;
  void Undo(const Change& change, ExpertId before, LayerSlots& slots) const;
  double MeasureBelow(const LayerSlots& slots, const Task& task, const Change& change, double bound);
  int Best(const Task& task, double bound, LayerSlots& slots, double& best);

  const SearchGround& ground_;
  LevelSolver solver_;
  // Of the placement as it is: by episode, then rank.
  std::vector<double> norms_;
  std::vector<double> levels_, pulls_, shares_of_group_;
  std::vector<int32_t> groups_;
  std::vector<int64_t> flows_;     // [episode][slot] of spread experts
  std::vector<double> pull_;       // [rank] over all episodes
  std::vector<double> additions_;  // [rank][expert] estimated gain
  std::vector<size_t> by_norm_;    // episodes, worst first
  double measure_ = 0;
  std::vector<Change> candidates_;
  std::vector<int64_t> start_;
};

}  // namespace evenkeel::algos
