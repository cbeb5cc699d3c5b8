// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/repair/move_budget.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

namespace evenkeel::algos {

namespace {

// The walk first looks at changes that touch this many of the busiest ranks, then at all.
constexpr size_t kBusiestRanks = 3;

class Mixer {
 public:
  Mixer(const Problem& problem, const Placement& current, const Placement& planned, int moves_max, LayerCosts& costs,
        const std::function<bool(const Placement&)>& is_allowed)
      : problem_(problem),
        current_(current),
        planned_(planned),
        moves_max_(moves_max),
        costs_(costs),
        is_allowed_(is_allowed) {
    const size_t num_ranks = static_cast<size_t>(problem.shape.num_ranks);
    ins_.resize(num_ranks);
    outs_.resize(num_ranks);
    moves_of_rank_.resize(num_ranks);
    for (size_t rank = 0; rank < num_ranks; ++rank) Compare(rank);
    best_ = costs.placement();
    best_max_ = costs.Now().max;
    best_moves_ = CountAllMoves();
    budget_ = std::max(moves_max_, best_moves_);
  }

  void Run() {
    if (best_moves_ < moves_max_) {
      if (NumMixtures() <= kMixturesMax) {
        Enumerate(0, 0);
      } else {
        Walk();
      }
    }
    costs_.Reset(best_);
  }

 private:
  std::span<const ExpertId> ContentOf(const Placement& placement, size_t rank) const {
    const size_t count = static_cast<size_t>(problem_.shape.slots_per_rank);
    return std::span(placement.expert_of_slot).subspan(rank * count, count);
  }

  SlotIdx SlotAt(size_t rank, size_t i) const {
    return problem_.shape.SlotAt(RankId(static_cast<int32_t>(rank)), static_cast<int>(i));
  }

  // What the rank has beyond the plan (slots) and lacks of it (experts, blanks for the rest), as many of each.
  void Compare(size_t rank) {
    const auto content = ContentOf(costs_.placement(), rank);
    const auto target = ContentOf(planned_, rank);
    std::vector<ExpertId>& ins = ins_[rank];
    std::vector<SlotIdx>& outs = outs_[rank];
    ins.assign(target.begin(), target.end());
    outs.clear();
    for (size_t i = 0; i < content.size(); ++i) {
      if (const auto found = std::ranges::find(ins, content[i]); found != ins.end()) {
        ins.erase(found);
      } else {
        outs.push_back(SlotAt(rank, i));
      }
    }
    moves_of_rank_[rank] = CountMovesInto(rank);
  }

  // Experts on the rank, with multiplicity, that it does not hold in `current_`.
  int CountMovesInto(size_t rank) {
    held_.assign(ContentOf(current_, rank).begin(), ContentOf(current_, rank).end());
    int moves = 0;
    for (ExpertId expert : ContentOf(costs_.placement(), rank)) {
      if (!expert.valid()) continue;
      if (const auto found = std::ranges::find(held_, expert); found != held_.end()) {
        held_.erase(found);
      } else {
        ++moves;
      }
    }
    return moves;
  }

  int CountAllMoves() const {
    int moves = 0;
    for (int of_rank : moves_of_rank_) moves += of_rank;
    return moves;
  }

  // Keeps what `costs_` holds if it is better than what was best.
  void Note(int moves) {
    const double max = costs_.Now().max;
    const bool is_lower = max < best_max_ * (1 - 1e-12);
    if (!is_lower && !(max <= best_max_ && moves < best_moves_)) return;
    if (is_allowed_ && !is_allowed_(costs_.placement())) return;
    best_ = costs_.placement();
    best_max_ = max;
    best_moves_ = moves;
  }

  // Choices of as many slots as experts: binomial(2 n, n) on each rank.
  double NumMixtures() const {
    double count = 1;
    for (const auto& outs : outs_) {
      for (size_t i = 1; i <= outs.size(); ++i) {
        count *= static_cast<double>(outs.size() + i) / static_cast<double>(i);
      }
    }
    return std::round(count);
  }

  // All mixtures of ranks from `rank` on, the earlier ones being as they are, with `moves` so far.
  void Enumerate(size_t rank, int moves) {
    if (moves > budget_) return;
    if (rank == outs_.size()) {
      const auto is_placed = [&](int e) { return costs_.num_replicas(ExpertId(e)) > 0; };
      for (int e = 0; e < problem_.shape.num_experts; ++e) {
        if (!is_placed(e)) return;
      }
      Note(moves);
      return;
    }
    const std::vector<SlotIdx> outs = outs_[rank];
    const std::vector<ExpertId> ins = ins_[rank];
    std::vector<ExpertId> before;
    for (SlotIdx slot : outs) before.push_back(costs_.expert(slot));
    const uint64_t num_subsets = uint64_t{1} << outs.size();
    for (uint64_t out = 0; out < num_subsets; ++out) {
      for (uint64_t in = 0; in < num_subsets; ++in) {
        if (std::popcount(in) != std::popcount(out)) continue;
        size_t next = 0;
        for (size_t i = 0; i < outs.size(); ++i) {
          ExpertId expert = before[i];
          if (out >> i & 1) {
            while (!(in >> next & 1)) ++next;
            expert = ins[next++];
          }
          costs_.Set({outs[i], expert});
        }
        Enumerate(rank + 1, moves + CountMovesInto(rank));
      }
    }
    for (size_t i = 0; i < outs.size(); ++i) costs_.Set({outs[i], before[i]});
  }

  // The changes that one step makes, and what they bring.
  struct Step {
    std::vector<SlotChange> changes;
    int moves = 0;  // more than before; may be none, or less
    double gain = 0;
  };

  void Walk() {
    while (true) {
      const std::optional<Step> step = BestStep();
      if (!step.has_value()) return;
      for (const SlotChange& change : step->changes) costs_.Set(change);
      for (const SlotChange& change : step->changes) Compare(problem_.shape.RankOf(change.slot).idx());
      Note(CountAllMoves());
    }
  }

  std::optional<Step> BestStep() {
    std::vector<size_t> by_cost(outs_.size());
    for (size_t rank = 0; rank < by_cost.size(); ++rank) by_cost[rank] = rank;
    const auto cost = [&](size_t rank) { return costs_.cost(RankId(static_cast<int32_t>(rank))); };
    std::ranges::stable_sort(by_cost, [&](size_t a, size_t b) { return cost(a) > cost(b); });
    is_busy_.assign(by_cost.size(), false);
    for (size_t i = 0; i < std::min(kBusiestRanks, by_cost.size()); ++i) is_busy_[by_cost[i]] = true;
    std::optional<Step> best = BestStepOfBusy();
    if (best.has_value()) return best;
    is_busy_.assign(by_cost.size(), true);
    return BestStepOfBusy();
  }

  bool IsOnBusyRank(ExpertId expert) const {
    return expert.valid() && std::ranges::any_of(costs_.slots_of(expert), [&](SlotIdx slot) {
             return is_busy_[problem_.shape.RankOf(slot).idx()];
           });
  }

  std::optional<Step> BestStepOfBusy() {
    std::optional<Step> best;
    const double now = costs_.Now().potential;
    for (size_t rank = 0; rank < outs_.size(); ++rank) {
      for (ExpertId expert : ins_[rank]) {
        if (!is_busy_[rank] && !IsOnBusyRank(expert)) continue;
        for (SlotIdx slot : outs_[rank]) {
          if (!Chain(slot, expert)) continue;
          const int moves = MovesOf(chain_);
          if (CountAllMoves() + moves > budget_) continue;
          const double fall = now - costs_.After(chain_).potential;
          if (fall <= now * 1e-9) continue;
          const double gain = fall / std::max(moves, 1);
          if (!best.has_value() || gain > best->gain) best = Step{chain_, moves, gain};
        }
      }
    }
    return best;
  }

  // Fills chain_ with `expert` into `slot` and what follows from it; false where it grows beyond the budget.
  bool Chain(SlotIdx slot, ExpertId expert) {
    chain_ = {{slot, expert}};
    while (!IsSettled()) {
      if (static_cast<int>(chain_.size()) > budget_) return false;
      if (!Continue(costs_.expert(chain_.back().slot))) return false;
    }
    return true;
  }

  // Whether the expert that the last change displaces is elsewhere after the chain.
  bool IsSettled() const {
    const ExpertId displaced = costs_.expert(chain_.back().slot);
    if (!displaced.valid()) return true;
    int left = costs_.num_replicas(displaced);
    for (const SlotChange& change : chain_) {
      left += (change.expert == displaced ? 1 : 0) - (costs_.expert(change.slot) == displaced ? 1 : 0);
    }
    return left > 0;
  }

  // Puts `displaced` where the plan has it: into a slot that ends the chain, else the first that is not in it.
  bool Continue(ExpertId displaced) {
    std::optional<SlotIdx> first;
    for (size_t rank = 0; rank < ins_.size(); ++rank) {
      if (std::ranges::find(ins_[rank], displaced) == ins_[rank].end()) continue;
      for (SlotIdx slot : outs_[rank]) {
        if (std::ranges::find(chain_, slot, &SlotChange::slot) != chain_.end()) continue;
        if (!first.has_value()) first = slot;
        chain_.push_back({slot, displaced});
        if (IsSettled()) return true;
        chain_.pop_back();
      }
    }
    if (!first.has_value()) return false;
    chain_.push_back({*first, displaced});
    return true;
  }

  // How many moves more (or fewer) the ranks then need.
  int MovesOf(const std::vector<SlotChange>& changes) {
    undone_.clear();
    ranks_.clear();
    int moves = 0;
    for (const SlotChange& change : changes) {
      undone_.push_back({change.slot, costs_.expert(change.slot)});
      ranks_.push_back(problem_.shape.RankOf(change.slot).idx());
    }
    std::ranges::sort(ranks_);
    ranks_.erase(std::unique(ranks_.begin(), ranks_.end()), ranks_.end());
    for (const SlotChange& change : changes) costs_.Set(change);
    for (size_t rank : ranks_) moves += CountMovesInto(rank) - moves_of_rank_[rank];
    for (const SlotChange& change : undone_) costs_.Set(change);
    return moves;
  }

  const Problem& problem_;
  const Placement& current_;
  const Placement& planned_;
  const int moves_max_;
  LayerCosts& costs_;
  const std::function<bool(const Placement&)>& is_allowed_;
  int budget_ = 0;
  // By rank, of what costs_ holds against the plan and `current_`.
  std::vector<std::vector<ExpertId>> ins_;
  std::vector<std::vector<SlotIdx>> outs_;
  std::vector<int> moves_of_rank_;
  std::vector<bool> is_busy_;
  // The best so far.
  Placement best_;
  double best_max_ = 0;
  int best_moves_ = 0;

  std::vector<SlotChange> chain_, undone_;
  std::vector<size_t> ranks_;
  std::vector<ExpertId> held_;
};

}  // namespace

void MoveTowards(const Problem& problem, const Placement& current, const Placement& planned, int moves_max,
                 LayerCosts& costs, const std::function<bool(const Placement&)>& is_allowed) {
  Mixer(problem, current, planned, moves_max, costs, is_allowed).Run();
}

}  // namespace evenkeel::algos
