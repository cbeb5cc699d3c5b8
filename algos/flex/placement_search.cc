// SPDX-License-Identifier: Apache-2.0
#include "algos/flex/placement_search.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

#include "algos/base/check.h"

namespace evenkeel::algos {

namespace {

constexpr double kPower = 128;
constexpr double kSettle = 0.95;         // of the highest level: ranks below it weigh little in the norm
constexpr double kCrowdingPrice = 2e-4;  // of the measure, for each replica beyond one on a node where others have none
constexpr int kRanksLightened = 4;       // that exchanges take load from, and
constexpr int kRanksFilled = 8;          // give it to

size_t At(int32_t index) { return static_cast<size_t>(index); }

// x^128 and its inverse, by operations that every machine rounds alike.
double ToPower(double x) {
  for (int i = 0; i < 7; ++i) x *= x;
  return x;
}
double FromPower(double x) {
  for (int i = 0; i < 7; ++i) x = std::sqrt(x);
  return x;
}

double NormOf(const LevelSolver& solver, std::span<const int32_t> speeds) {
  const double max = solver.max_level();
  if (max <= 0) return 1;
  double sum = 0, speed = 0;
  int32_t last_group = -1;
  double last_power = 0;
  for (size_t r = 0; r < speeds.size(); ++r) {
    if (speeds[r] == 0) continue;
    const int32_t rank = static_cast<int32_t>(r);
    if (solver.group(rank) != last_group) {
      last_group = solver.group(rank);
      last_power = ToPower(solver.level(rank) / max);
    }
    sum += last_power * speeds[r];
    speed += speeds[r];
  }
  return max * FromPower(sum / speed);
}

}  // namespace

double PlacementSearch::Measure(const Shape& shape, const Placement& placement, const Task& task) {
  solver_.Wire(shape, placement);
  double measure = 0;
  for (const WeightedLoad& load : task.episodes) {
    solver_.Solve(load.tokens, load.replica_cost, {}, kSettle);
    measure += load.weight * NormOf(solver_, ground_.speeds);
  }
  return measure;
}

// The same, worst episodes first, after `change` has been applied to what was surveyed; something not below `bound` as
// soon as that is certain.
double PlacementSearch::MeasureBelow(const LayerSlots& slots, const Task& task, const Change& change, double bound) {
  solver_.Wire(slots.shape(), slots.placement());
  const size_t num_slots = slots.placement().expert_of_slot.size();
  double measure = 0, weight_left = 1;
  for (size_t k : by_norm_) {
    const WeightedLoad& load = task.episodes[k];
    const auto before = flows_.begin() + static_cast<std::ptrdiff_t>(k * num_slots);
    start_.assign(before, before + static_cast<std::ptrdiff_t>(num_slots));
    start_[change.slot.idx()] = 0;
    if (change.other_slot.valid()) start_[change.other_slot.idx()] = 0;
    solver_.Solve(load.tokens, load.replica_cost, start_, kSettle);
    measure += load.weight * NormOf(solver_, ground_.speeds);
    weight_left -= load.weight;
    if (measure + weight_left >= bound + 1e-12) return bound + 1;
  }
  return measure;
}

int PlacementSearch::Improve(const Task& task, const SearchLimits& limits, LayerSlots& slots, double& measure) {
  int num_moves = 0;
  const size_t num_kept = static_cast<size_t>(limits.num_candidates);
  Survey(slots, task);
  while (num_moves < limits.moves_max && measure_ - 1 >= limits.gain_min) {
    double best = measure_ - limits.gain_min;
    FindReplacements(slots, task, num_kept);
    int chosen = Best(task, best, slots, best);
    const int cost = chosen < 0 ? 2 : 1;
    if (chosen < 0 && num_moves + 2 <= limits.moves_max) {
      best = measure_ - 2 * limits.gain_min;
      FindExchanges(slots, task, num_kept);
      chosen = Best(task, best, slots, best);
    }
    if (chosen >= 0) {
      Apply(candidates_[At(chosen)], slots);
    } else if (num_moves + 2 > limits.moves_max || !MakePair(task, limits, slots)) {
      break;
    }
    num_moves += cost;
    Survey(slots, task);
  }
  measure = measure_;
  return num_moves;
}

// Two replacements that together are worth it, though the first alone is not. Leaves another survey behind.
bool PlacementSearch::MakePair(const Task& task, const SearchLimits& limits, LayerSlots& slots) {
  if (limits.num_openings == 0) return false;
  FindReplacements(slots, task, static_cast<size_t>(limits.num_openings), -1e300);
  const std::vector<Change> openings = candidates_;
  double best = measure_ - 2 * limits.gain_min;
  Change first, second;
  for (const Change& opening : openings) {
    const ExpertId before = slots.expert(opening.slot);
    Apply(opening, slots);
    Survey(slots, task);
    FindReplacements(slots, task, static_cast<size_t>(limits.num_candidates));
    const int chosen = Best(task, best, slots, best);
    if (chosen >= 0) first = opening, second = candidates_[At(chosen)];
    Undo(opening, before, slots);
  }
  if (!first.slot.valid()) return false;
  Apply(first, slots);
  Apply(second, slots);
  return true;
}

// The candidate whose measure is least, if that is below `bound`; -1 if none is.
int PlacementSearch::Best(const Task& task, double bound, LayerSlots& slots, double& best) {
  int chosen = -1;
  best = bound;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    const Change& change = candidates_[i];
    const double price = kCrowdingPrice * CrowdingChange(slots, change);
    const ExpertId before = slots.expert(change.slot);
    Apply(change, slots);
    const double measure = MeasureBelow(slots, task, change, best - price) + price;
    Undo(change, before, slots);
    if (measure >= best) continue;
    best = measure;
    chosen = static_cast<int>(i);
  }
  return chosen;
}

void PlacementSearch::Apply(const Change& change, LayerSlots& slots) const {
  const ExpertId before = slots.Set(change.slot, change.expert);
  if (change.other_slot.valid()) slots.Set(change.other_slot, before);
}

void PlacementSearch::Undo(const Change& change, ExpertId before, LayerSlots& slots) const {
  slots.Set(change.slot, before);
  if (change.other_slot.valid()) slots.Set(change.other_slot, change.expert);
}

void PlacementSearch::Survey(const LayerSlots& slots, const Task& task) {
  const size_t num_ranks = ground_.speeds.size(), num_slots = slots.placement().expert_of_slot.size();
  const size_t num_episodes = task.episodes.size(), num_experts = At(slots.shape().num_experts);
  norms_.assign(num_episodes, 1);
  levels_.assign(num_episodes * num_ranks, 0);
  pulls_.assign(num_episodes * num_ranks, 0);
  shares_of_group_.assign(num_episodes * num_ranks, 1);
  groups_.assign(num_episodes * num_ranks, 0);
  flows_.assign(num_episodes * num_slots, 0);
  pull_.assign(num_ranks, 0);
  additions_.assign(num_ranks * num_experts, 0);
  const double total_speed = std::accumulate(ground_.speeds.begin(), ground_.speeds.end(), 0.0);
  solver_.Wire(slots.shape(), slots.placement());
  measure_ = 0;
  for (size_t k = 0; k < num_episodes; ++k) {
    const WeightedLoad& load = task.episodes[k];
    solver_.Solve(load.tokens, load.replica_cost, {}, kSettle);
    norms_[k] = NormOf(solver_, ground_.speeds);
    measure_ += load.weight * norms_[k];
    solver_.Solve(load.tokens, load.replica_cost);
    for (size_t r = 0; r < num_ranks; ++r) {
      if (ground_.speeds[r] == 0) continue;
      const int32_t rank = static_cast<int32_t>(r);
      const size_t at = k * num_ranks + r;
      levels_[at] = solver_.level(rank);
      groups_[at] = solver_.group(rank);
      // What the norm falls by when the rank's group as a whole is spared one mean rank's load.
      pulls_[at] = load.weight * ToPower(levels_[at] / norms_[k]) * norms_[k] / std::max(levels_[at], 1e-9);
      shares_of_group_[at] = solver_.group_speed(rank) / total_speed * static_cast<double>(num_ranks);
      pull_[r] += pulls_[at];
    }
    solver_.CopyFlows(std::span(flows_).subspan(k * num_slots, num_slots));
    SurveyAdditions(slots, k, load);
  }
  by_norm_.resize(num_episodes);
  std::iota(by_norm_.begin(), by_norm_.end(), size_t{0});
  std::ranges::stable_sort(by_norm_, [&](size_t a, size_t b) {
    return task.episodes[a].weight * (norms_[a] - 1) > task.episodes[b].weight * (norms_[b] - 1);
  });
}

// What a further replica of each expert on each rank would be worth in this episode: the load that would then go
// from the expert's group to the rank's, until both are level or it is all there.
void PlacementSearch::SurveyAdditions(const LayerSlots& slots, size_t k, const WeightedLoad& load) {
  const size_t num_ranks = ground_.speeds.size();
  const double* levels = &levels_[k * num_ranks];
  const double* pulls = &pulls_[k * num_ranks];
  const double* sizes = &shares_of_group_[k * num_ranks];
  double lowest = 1e300;
  for (size_t r = 0; r < num_ranks; ++r) {
    if (ground_.speeds[r] > 0) lowest = std::min(lowest, levels[r]);
  }
  const double scale = 1.0 / static_cast<double>(kMeanRankCost);
  for (size_t e = 0; e < load.tokens.size(); ++e) {
    const auto ranks = slots.ranks_of(ExpertId(static_cast<int32_t>(e)));
    if (ranks.empty() || load.tokens[e] == 0) continue;
    size_t from = At(ranks[0]);
    for (int32_t rank : ranks) {
      if (levels[At(rank)] < levels[from]) from = At(rank);
    }
    if (levels[from] <= lowest) continue;
    const double available = static_cast<double>(load.tokens[e]) * scale;
    for (size_t r = 0; r < num_ranks; ++r) {
      const double fall = levels[from] - levels[r];
      if (fall <= 0 || ground_.speeds[r] == 0) continue;
      const double moved = std::min(fall / (1 / sizes[from] + 1 / sizes[r]), available);
      additions_[r * load.tokens.size() + e] += (pulls[from] - pulls[r]) * moved;
    }
  }
}

bool PlacementSearch::MayTake(const LayerSlots& slots, const Task& task, int32_t rank, ExpertId expert) const {
  if (slots.Holds(RankId(rank), expert)) return false;
  return task.home_node.empty() || task.home_node[expert.idx()] < 0 ||
         task.home_node[expert.idx()] == ground_.node_of_rank[At(rank)];
}

bool PlacementSearch::IsFree(const LayerSlots& slots, const Task& task, SlotIdx slot) const {
  const ExpertId held = slots.expert(slot);
  if (!held.valid()) return true;
  return slots.num_replicas(held) >= 2 && (task.pinned.empty() || task.pinned[slot.idx()] == 0) &&
         StaysProtected(slots, task, held, slots.shape().RankOf(slot).value(), -1);
}

bool PlacementSearch::StaysProtected(const LayerSlots& slots, const Task& task, ExpertId expert, int32_t left,
                                     int32_t entered) const {
  if (task.protection == nullptr || task.levels[expert.idx()] <= 0) return true;
  std::vector<int32_t> ranks(slots.ranks_of(expert).begin(), slots.ranks_of(expert).end());
  ranks.erase(std::ranges::find(ranks, left));
  if (entered >= 0) ranks.push_back(entered);
  return task.protection->LevelOf(ranks) >= task.levels[expert.idx()];
}

// What it costs that the rank's part of the expert goes back to the other replicas.
double PlacementSearch::LossOf(const Task& task, ExpertId expert, int32_t rank, const LayerSlots& slots) const {
  const size_t num_ranks = ground_.speeds.size(), num_slots = slots.placement().expert_of_slot.size();
  const size_t first = At(rank) * At(slots.shape().slots_per_rank);
  size_t slot = first;
  while (slots.placement().expert_of_slot[slot] != expert) ++slot;
  double loss = 0;
  for (size_t k = 0; k < task.episodes.size(); ++k) {
    const size_t here = k * num_ranks + At(rank);
    size_t to = here;
    for (int32_t other : slots.ranks_of(expert)) {
      const size_t at = k * num_ranks + At(other);
      if (other != rank && (to == here || levels_[at] < levels_[to])) to = at;
    }
    const double flow = static_cast<double>(flows_[k * num_slots + slot]) / static_cast<double>(kMeanRankCost);
    loss += (groups_[to] == groups_[here] ? 0.1 * pulls_[to] : std::max(0.0, pulls_[to] - pulls_[here])) * flow;
  }
  return loss;
}

void PlacementSearch::FindReplacements(const LayerSlots& slots, const Task& task, size_t num_kept,
                                       double estimate_min) {
  candidates_.clear();
  const Shape& shape = slots.shape();
  const size_t num_experts = At(shape.num_experts);
  for (int32_t rank = 0; rank < shape.num_ranks; ++rank) {
    if (ground_.speeds[At(rank)] == 0) continue;
    for (int local = 0; local < shape.slots_per_rank; ++local) {
      const SlotIdx slot = shape.SlotAt(RankId(rank), local);
      if (!IsFree(slots, task, slot)) continue;
      const ExpertId held = slots.expert(slot);
      const double loss = held.valid() ? LossOf(task, held, rank, slots) : 0;
      for (int32_t e = 0; e < shape.num_experts; ++e) {
        const double gain = additions_[At(rank) * num_experts + At(e)];
        if (gain - loss <= estimate_min || gain <= 0 || !MayTake(slots, task, rank, ExpertId(e))) continue;
        candidates_.push_back({.slot = slot, .expert = ExpertId(e), .other_slot = {}, .estimate = gain - loss});
      }
    }
  }
  KeepBest(num_kept);
}

// The fall of the norm when `away` goes from rank `from` to rank `to` in exchange for `back`.
double PlacementSearch::ExchangeGain(const Task& task, int32_t from, int32_t to, ExpertId away, ExpertId back,
                                     const LayerSlots& slots) const {
  const size_t num_ranks = ground_.speeds.size();
  const bool away_moves = slots.num_replicas(away) == 1, back_moves = slots.num_replicas(back) == 1;
  double gain = 0;
  for (size_t k = 0; k < task.episodes.size(); ++k) {
    const size_t a = k * num_ranks + At(from), b = k * num_ranks + At(to);
    if (groups_[a] == groups_[b]) continue;
    double moved = 0;
    if (away_moves) moved += static_cast<double>(task.episodes[k].tokens[away.idx()]);
    if (back_moves) moved -= static_cast<double>(task.episodes[k].tokens[back.idx()]);
    moved /= static_cast<double>(kMeanRankCost);
    const double down = kPower * moved / shares_of_group_[a], up = kPower * moved / shares_of_group_[b];
    if (moved >= 0) {
      gain += pulls_[a] * moved / (1 + down / 2) - pulls_[b] * moved * (1 + up / 2 * (1 + up / 3));
    } else {
      gain += pulls_[a] * moved * (1 - down / 2 * (1 - down / 3)) - pulls_[b] * moved / (1 - up / 2);
    }
  }
  return gain;
}

void PlacementSearch::FindExchanges(const LayerSlots& slots, const Task& task, size_t num_kept) {
  candidates_.clear();
  const Shape& shape = slots.shape();
  std::vector<int32_t> order;
  for (int32_t rank = 0; rank < shape.num_ranks; ++rank) {
    if (ground_.speeds[At(rank)] > 0) order.push_back(rank);
  }
  std::ranges::stable_sort(order, [&](int32_t a, int32_t b) { return pull_[At(a)] > pull_[At(b)]; });
  const size_t num_from = std::min(order.size(), static_cast<size_t>(kRanksLightened));
  const size_t num_to = std::min(order.size(), static_cast<size_t>(kRanksFilled));
  for (size_t i = 0; i < num_from; ++i) {
    for (size_t j = order.size() - num_to; j < order.size(); ++j) {
      if (j <= i) continue;
      const int32_t from = order[i], to = order[j];
      for (int la = 0; la < shape.slots_per_rank; ++la) {
        const SlotIdx slot = shape.SlotAt(RankId(from), la);
        const ExpertId away = slots.expert(slot);
        if (!away.valid() || !MayTake(slots, task, to, away)) continue;
        if (!task.pinned.empty() && task.pinned[slot.idx()] != 0) continue;
        for (int lb = 0; lb < shape.slots_per_rank; ++lb) {
          const SlotIdx other = shape.SlotAt(RankId(to), lb);
          const ExpertId back = slots.expert(other);
          if (!back.valid() || !MayTake(slots, task, from, back)) continue;
          if (!task.pinned.empty() && task.pinned[other.idx()] != 0) continue;
          if (slots.num_replicas(away) > 1 && slots.num_replicas(back) > 1) continue;
          if (!StaysProtected(slots, task, away, from, to) || !StaysProtected(slots, task, back, to, from)) continue;
          const double gain = ExchangeGain(task, from, to, away, back, slots);
          if (gain > 0) candidates_.push_back({.slot = slot, .expert = back, .other_slot = other, .estimate = gain});
        }
      }
    }
  }
  KeepBest(num_kept);
}

void PlacementSearch::KeepBest(size_t num_kept) {
  const auto is_better = [](const Change& a, const Change& b) {
    if (a.estimate != b.estimate) return a.estimate > b.estimate;
    return std::tie(a.slot, a.expert, a.other_slot) < std::tie(b.slot, b.expert, b.other_slot);
  };
  num_kept = std::min(num_kept, candidates_.size());
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(num_kept), candidates_.end(),
                    is_better);
  candidates_.resize(num_kept);
}

// Replicas beyond one for each host that holds some: 0 where each is on a host of its own.
int PlacementSearch::Crowding(const LayerSlots& slots, ExpertId expert) const {
  const auto ranks = slots.ranks_of(expert);
  int num_hosts = 0;
  for (size_t i = 0; i < ranks.size(); ++i) {
    const auto shares_host = [&](int32_t rank) {
      return ground_.host_of_rank[At(rank)] == ground_.host_of_rank[At(ranks[i])];
    };
    if (std::ranges::none_of(ranks.first(i), shares_host)) ++num_hosts;
  }
  return std::min(slots.num_replicas(expert), ground_.num_hosts) - num_hosts;
}

int PlacementSearch::CrowdingChange(const LayerSlots& slots, const Change& change) const {
  if (ground_.num_hosts < 2) return 0;
  LayerSlots after = slots;
  Apply(change, after);
  int sum = 0;
  for (ExpertId expert : {slots.expert(change.slot), change.expert}) {
    if (expert.valid()) sum += Crowding(after, expert) - Crowding(slots, expert);
  }
  return sum;
}

}  // namespace evenkeel::algos
