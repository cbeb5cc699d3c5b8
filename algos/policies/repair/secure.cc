// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/repair/secure.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "algos/placement.h"
#include "algos/policies/repair/protection.h"

namespace evenkeel::algos {

namespace {

// Ways of one length whose harm is compared.
constexpr size_t kWaysCompared = 64;

class LayerSecurer {
 public:
  LayerSecurer(const Problem& problem, LayerId layer, LayerCosts& costs)
      : problem_(problem), shape_(problem.shape), protection_(problem), costs_(costs) {
    const size_t num_slots = static_cast<size_t>(shape_.num_slots());
    locked_.assign(num_slots, false);
    secured_.assign(static_cast<size_t>(shape_.num_experts), 0);
    for (const Pin& pin : problem.pins) {
      if (pin.layer == layer) Lock(pin);
    }
  }

  void Run(SecureRules rules) {
    std::vector<int> order(secured_.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order,
                             [&](int a, int b) { return costs_.tokens(ExpertId(a)) > costs_.tokens(ExpertId(b)); });
    for (int level = 1; level <= protection_.num_levels(); ++level) {
      for (int e : order) {
        const ExpertId expert(e);
        const int now = LevelNow(expert);
        if (now == level - 1 && !Raise(expert, level, false) && rules.may_take_from_colder) Raise(expert, level, true);
        if (LevelNow(expert) >= level) secured_[expert.idx()] = level;
      }
    }
  }

 private:
  void Lock(const Pin& pin) {
    for (int local = 0; local < shape_.slots_per_rank; ++local) {
      const SlotIdx slot = shape_.SlotAt(pin.rank, local);
      if (costs_.expert(slot) != pin.expert) continue;
      locked_[slot.idx()] = true;
      return;
    }
  }

  // What the expert's level would be without the replica in `left` and with one on `entered` (-1: none).
  int LevelWith(ExpertId expert, SlotIdx left, int32_t entered) {
    ranks_.clear();
    for (SlotIdx slot : costs_.slots_of(expert)) {
      if (slot != left) ranks_.push_back(shape_.RankOf(slot).value());
    }
    if (entered >= 0) ranks_.push_back(entered);
    return protection_.LevelOf(ranks_);
  }
  int LevelNow(ExpertId expert) { return LevelWith(expert, SlotIdx(), -1); }

  // Below which the expert must not fall.
  int FloorOf(ExpertId expert, bool from_colder) { return from_colder ? secured_[expert.idx()] : LevelNow(expert); }

  bool MayEnter(int32_t rank, ExpertId expert) const {
    return problem_.IsLive(RankId(rank)) && !costs_.Holds(RankId(rank), expert);
  }

  bool MayGo(SlotIdx slot, bool from_colder) {
    const ExpertId held = costs_.expert(slot);
    return !held.valid() || LevelWith(held, slot, -1) >= FloorOf(held, from_colder);
  }

  bool AnyMayGo(bool from_colder) {
    for (int s = 0; s < shape_.num_slots(); ++s) {
      const SlotIdx slot(s);
      if (!locked_[slot.idx()] && problem_.IsLive(shape_.RankOf(slot)) && MayGo(slot, from_colder)) return true;
    }
    return false;
  }

  // One replica more of `expert`, which lifts it to `level`.
  bool Raise(ExpertId expert, int level, bool from_colder) {
    if (!AnyMayGo(from_colder)) return false;
    parent_.assign(locked_.size(), kUnseen);
    frontier_.clear();
    ranks_.clear();
    for (SlotIdx slot : costs_.slots_of(expert)) ranks_.push_back(shape_.RankOf(slot).value());
    const std::vector<int32_t> held = ranks_;
    const bool other_host = protection_.NeedsOtherHost(held, level);
    for (int32_t rank = 0; rank < shape_.num_ranks; ++rank) {
      if (!MayEnter(rank, expert)) continue;
      const auto shares_host = [&](int32_t other) { return protection_.ShareHost(rank, other); };
      if (other_host && std::ranges::any_of(held, shares_host)) continue;
      See(rank, kRoot);
    }
    while (!frontier_.empty()) {
      if (TakeBest(expert, level, from_colder)) return true;
      const std::vector<SlotIdx> reached = std::exchange(frontier_, {});
      for (SlotIdx slot : reached) Expand(slot, expert, from_colder);
    }
    return false;
  }

  // The slots of a rank, which what is displaced from `from` may enter.
  void See(int32_t rank, int32_t from) {
    for (int local = 0; local < shape_.slots_per_rank; ++local) {
      const SlotIdx slot = shape_.SlotAt(RankId(rank), local);
      if (parent_[slot.idx()] != kUnseen || locked_[slot.idx()]) continue;
      parent_[slot.idx()] = from;
      frontier_.push_back(slot);
    }
  }

  void Expand(SlotIdx slot, ExpertId raised, bool from_colder) {
    const ExpertId displaced = costs_.expert(slot);
    if (!displaced.valid() || displaced == raised) return;
    const int floor = FloorOf(displaced, from_colder);
    for (int32_t rank = 0; rank < shape_.num_ranks; ++rank) {
      if (MayEnter(rank, displaced) && LevelWith(displaced, slot, rank) >= floor) See(rank, slot.value());
    }
  }

  // The changes that fill the way up to `end`, from the root on.
  std::vector<SlotChange> WayTo(SlotIdx end, ExpertId expert) const {
    std::vector<SlotChange> way;
    for (SlotIdx at = end; true; at = SlotIdx(parent_[at.idx()])) {
      const int32_t from = parent_[at.idx()];
      way.push_back({at, from == kRoot ? expert : costs_.expert(SlotIdx(from))});
      if (from == kRoot) break;
    }
    std::ranges::reverse(way);
    return way;
  }

  // Of the slots just reached, ends the way in the one that may go with least harm.
  bool TakeBest(ExpertId expert, int level, bool from_colder) {
    std::vector<SlotIdx> ends;
    for (SlotIdx slot : frontier_) {
      if (costs_.expert(slot) == expert || MayGo(slot, from_colder)) ends.push_back(slot);
    }
    const auto cost_of = [&](SlotIdx slot) { return costs_.cost(shape_.RankOf(slot)); };
    std::ranges::stable_sort(ends, [&](SlotIdx a, SlotIdx b) { return cost_of(a) < cost_of(b); });
    std::vector<SlotChange> best;
    double least = 0;
    size_t num_compared = 0;
    for (SlotIdx end : ends) {
      if (num_compared >= kWaysCompared) break;
      const std::vector<SlotChange> way = WayTo(end, expert);
      if (!KeepsLevels(way, expert, level, from_colder)) continue;
      ++num_compared;
      const double harm = costs_.After(way).potential;
      if (!best.empty() && harm >= least) continue;
      best = way;
      least = harm;
    }
    for (const SlotChange& change : best) costs_.Set(change);
    return !best.empty();
  }

  // Whether, after all the changes, the raised expert is at its level and no other below its floor.
  bool KeepsLevels(std::span<const SlotChange> way, ExpertId expert, int level, bool from_colder) {
    std::vector<std::pair<ExpertId, int>> floors;
    std::vector<SlotChange> undo;
    for (const SlotChange& change : way) {
      const ExpertId held = costs_.expert(change.slot);
      undo.push_back({change.slot, held});
      if (held.valid() && held != expert) floors.emplace_back(held, FloorOf(held, from_colder));
    }
    floors.emplace_back(expert, level);
    for (const SlotChange& change : way) costs_.Set(change);
    const bool keeps =
        std::ranges::all_of(floors, [&](const auto& kept) { return LevelNow(kept.first) >= kept.second; });
    for (const SlotChange& change : undo) costs_.Set(change);
    return keeps;
  }

  static constexpr int32_t kUnseen = -2, kRoot = -1;

  const Problem& problem_;
  const Shape shape_;
  const Protection protection_;
  LayerCosts& costs_;
  std::vector<bool> locked_;       // by slot: holds a pinned expert
  std::vector<int> secured_;       // by expert: the level it was brought to
  std::vector<int32_t> parent_;    // by slot: the slot whose expert would enter it, kRoot or kUnseen
  std::vector<SlotIdx> frontier_;  // reached by the last step
  std::vector<int32_t> ranks_;
};

}  // namespace

void SecureLayer(const Problem& problem, LayerId layer, SecureRules rules, LayerCosts& costs) {
  if (problem.survive.any()) LayerSecurer(problem, layer, costs).Run(rules);
}

}  // namespace evenkeel::algos
