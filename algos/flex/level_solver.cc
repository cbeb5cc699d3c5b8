// SPDX-License-Identifier: Apache-2.0
#include "algos/flex/level_solver.h"

#include <algorithm>
#include <utility>

#include "algos/base/check.h"

namespace evenkeel::algos {

namespace {

size_t At(int32_t index) { return static_cast<size_t>(index); }

constexpr int32_t kNowhere = -1;
constexpr int32_t kSeveral = -2;

int32_t Partition(std::vector<int32_t>& order, int32_t first, int32_t end, const std::vector<uint8_t>& stuck) {
  int32_t middle = first;
  for (int32_t i = first; i < end; ++i) {
    if (stuck[At(order[At(i)])] != 0) std::swap(order[At(i)], order[At(middle++)]);
  }
  return middle;
}

}  // namespace

LevelSolver::LevelSolver(std::span<const int32_t> speeds) : speeds_(speeds.begin(), speeds.end()) {
  const size_t num_ranks = speeds_.size();
  levels_.assign(num_ranks, 0);
  base_.assign(num_ranks, 0);
  room_.assign(num_ranks, 0);
  rank_stuck_.assign(num_ranks, 0);
  rank_via_.assign(num_ranks, 0);
  group_of_rank_.assign(num_ranks, 0);
}

void LevelSolver::Wire(const Shape& shape, const Placement& placement) {
  const size_t num_experts = At(shape.num_experts), num_ranks = speeds_.size();
  offsets_.assign(num_experts + 1, 0);
  for (ExpertId expert : placement.expert_of_slot) {
    if (expert.valid()) ++offsets_[expert.idx() + 1];
  }
  for (size_t e = 0; e < num_experts; ++e) offsets_[e + 1] += offsets_[e];
  slots_.resize(At(offsets_.back()));
  cursor_.assign(offsets_.begin(), offsets_.end() - 1);
  for (size_t s = 0; s < placement.expert_of_slot.size(); ++s) {
    const ExpertId expert = placement.expert_of_slot[s];
    if (expert.valid()) slots_[At(cursor_[expert.idx()]++)] = static_cast<int32_t>(s);
  }
  sole_rank_.assign(num_experts, kNowhere);
  spreads_.clear();
  edges_.clear();
  first_of_rank_.assign(num_ranks + 1, 0);
  for (size_t e = 0; e < num_experts; ++e) {
    const int32_t first = offsets_[e], end = offsets_[e + 1];
    if (first == end) continue;
    if (end - first == 1) {
      sole_rank_[e] = slots_[At(first)] / shape.slots_per_rank;
      continue;
    }
    sole_rank_[e] = kSeveral;
    const int32_t spread = static_cast<int32_t>(spreads_.size());
    const int32_t first_edge = static_cast<int32_t>(edges_.size());
    for (int32_t i = first; i < end; ++i) {
      const int32_t rank = slots_[At(i)] / shape.slots_per_rank;
      edges_.push_back({.spread = spread, .rank = rank, .slot = slots_[At(i)]});
      ++first_of_rank_[At(rank) + 1];
    }
    spreads_.push_back(
        {.expert = static_cast<int32_t>(e), .first_edge = first_edge, .end_edge = static_cast<int32_t>(edges_.size())});
  }
  for (size_t r = 0; r < num_ranks; ++r) first_of_rank_[r + 1] += first_of_rank_[r];
  edges_of_rank_.resize(edges_.size());
  cursor_.assign(first_of_rank_.begin(), first_of_rank_.end());
  for (size_t i = 0; i < edges_.size(); ++i) {
    edges_of_rank_[At(cursor_[At(edges_[i].rank)]++)] = static_cast<int32_t>(i);
  }
}

void LevelSolver::Load(std::span<const int64_t> tokens, int64_t replica_cost, std::span<const int64_t> start) {
  std::ranges::fill(base_, 0);
  for (size_t e = 0; e < tokens.size(); ++e) {
    if (sole_rank_[e] >= 0) base_[At(sole_rank_[e])] += tokens[e] + (tokens[e] > 0 ? replica_cost : 0);
  }
  for (Spread& spread : spreads_) {
    spread.tokens = tokens[At(spread.expert)];
    int64_t left = spread.tokens;
    const int64_t even = spread.tokens / (spread.end_edge - spread.first_edge);
    for (int32_t i = spread.first_edge; i < spread.end_edge; ++i) {
      Edge& edge = edges_[At(i)];
      edge.flow = std::min(left, start.empty() ? even : start[At(edge.slot)]);
      if (i + 1 == spread.end_edge) edge.flow = left;
      left -= edge.flow;
      if (spread.tokens > 0) base_[At(edge.rank)] += replica_cost;
    }
  }
  order_ranks_.clear();
  order_spreads_.clear();
  for (size_t r = 0; r < speeds_.size(); ++r) {
    if (speeds_[r] > 0) order_ranks_.push_back(static_cast<int32_t>(r));
  }
  for (size_t s = 0; s < spreads_.size(); ++s) {
    if (spreads_[s].tokens > 0) order_spreads_.push_back(static_cast<int32_t>(s));
  }
  std::ranges::fill(group_of_rank_, 0);
  group_of_spread_.assign(spreads_.size(), 0);
  spread_stuck_.assign(spreads_.size(), 0);
  spread_via_.assign(spreads_.size(), 0);
  rank_seen_.assign(speeds_.size(), 0);
  spread_seen_.assign(spreads_.size(), 0);
  group_speeds_.assign(1, 0);
  search_ = 0;
}

void LevelSolver::Solve(std::span<const int64_t> tokens, int64_t replica_cost, std::span<const int64_t> start,
                        double settle) {
  EVENKEEL_CHECK(tokens.size() == sole_rank_.size());
  Load(tokens, replica_cost, start);
  max_level_ = 0;
  perfect_ = 0;
  pending_.clear();
  pending_.push_back({0, static_cast<int32_t>(order_ranks_.size()), 0, static_cast<int32_t>(order_spreads_.size()), 0});
  while (!pending_.empty()) {
    Group group = pending_.back();
    pending_.pop_back();
    const auto [cost, speed] = TotalsOf(group);
    const double mean = static_cast<double>(cost) / static_cast<double>(std::max<int64_t>(speed, 1));
    if (perfect_ <= 0) perfect_ = mean > 0 ? mean : 1;  // the whole group comes first
    // The first group done is the fullest, so the highest level is known to all others.
    const double low = settle * max_level_ * perfect_;
    const bool is_low = mean <= low;
    const int64_t room = is_low ? static_cast<int64_t>(low * static_cast<double>(speed)) : cost;
    if (Fill(group, room, speed)) {
      Settle(group, mean / perfect_, speed);
      continue;
    }
    const Group stuck = SplitOffStuck(group);
    if (group.first_rank == group.end_rank) {
      Settle(stuck, mean / perfect_, speed);
      continue;
    }
    if (is_low) {
      const Totals rest = TotalsOf(group);
      Settle(group, static_cast<double>(rest.cost) / static_cast<double>(rest.speed) / perfect_, rest.speed);
    } else {
      pending_.push_back(group);
    }
    pending_.push_back(stuck);
  }
}

LevelSolver::Totals LevelSolver::TotalsOf(const Group& group) const {
  Totals totals;
  for (int32_t i = group.first_rank; i < group.end_rank; ++i) {
    totals.cost += base_[At(order_ranks_[At(i)])];
    totals.speed += speeds_[At(order_ranks_[At(i)])];
  }
  for (int32_t i = group.first_spread; i < group.end_spread; ++i) {
    totals.cost += spreads_[At(order_spreads_[At(i)])].tokens;
  }
  return totals;
}

void LevelSolver::Settle(const Group& group, double level, int64_t speed) {
  for (int32_t i = group.first_rank; i < group.end_rank; ++i) levels_[At(order_ranks_[At(i)])] = level;
  group_speeds_[At(group.id)] = static_cast<int32_t>(speed);
  max_level_ = std::max(max_level_, level);
}

// Gives every rank room for its part of `cost`, keeps the flows that fit and finds ways for the rest. False if
// there is none for some: what holds it up is marked stuck.
bool LevelSolver::Fill(const Group& group, int64_t cost, int64_t speed) {
  bool all_fit = true;
  for (int32_t i = group.first_rank; i < group.end_rank; ++i) {
    const size_t rank = At(order_ranks_[At(i)]);
    room_[rank] = (cost * speeds_[rank] + speed - 1) / speed - base_[rank];
    rank_stuck_[rank] = room_[rank] < 0 ? 1 : 0;
    all_fit = all_fit && rank_stuck_[rank] == 0;
  }
  for (int32_t i = group.first_spread; i < group.end_spread; ++i) {
    const int32_t s = order_spreads_[At(i)];
    spread_stuck_[At(s)] = 0;
    Spread& spread = spreads_[At(s)];
    int64_t left = spread.tokens;
    for (int32_t j = spread.first_edge; j < spread.end_edge; ++j) {
      Edge& edge = edges_[At(j)];
      if (group_of_rank_[At(edge.rank)] != group.id) {
        edge.flow = 0;
        continue;
      }
      int64_t& room = room_[At(edge.rank)];
      edge.flow = std::min({edge.flow, left, std::max<int64_t>(room, 0)});
      room -= edge.flow;
      left -= edge.flow;
    }
    spread.excess = left;
  }
  for (int32_t i = group.first_spread; i < group.end_spread; ++i) {
    const int32_t s = order_spreads_[At(i)];
    while (spreads_[At(s)].excess > 0) {
      if (spread_stuck_[At(s)] == 0 && Augment(s, group.id)) continue;
      all_fit = false;
      break;
    }
  }
  return all_fit;
}

bool LevelSolver::Augment(int32_t spread, int32_t group) {
  ++search_;
  queue_.assign(1, spread);
  spread_seen_[At(spread)] = search_;
  int32_t goal = -1;
  for (size_t head = 0; head < queue_.size() && goal < 0; ++head) {
    const Spread& from = spreads_[At(queue_[head])];
    for (int32_t i = from.first_edge; i < from.end_edge; ++i) {
      const size_t rank = At(edges_[At(i)].rank);
      if (group_of_rank_[rank] != group || rank_seen_[rank] == search_ || rank_stuck_[rank] != 0) continue;
      rank_seen_[rank] = search_;
      rank_via_[rank] = i;
      if (room_[rank] > 0) {
        goal = static_cast<int32_t>(rank);
        break;
      }
      for (int32_t j = first_of_rank_[rank]; j < first_of_rank_[rank + 1]; ++j) {
        const Edge& back = edges_[At(edges_of_rank_[At(j)])];
        if (back.flow == 0 || spread_seen_[At(back.spread)] == search_) continue;
        spread_seen_[At(back.spread)] = search_;
        spread_via_[At(back.spread)] = edges_of_rank_[At(j)];
        queue_.push_back(back.spread);
      }
    }
  }
  if (goal < 0) {
    for (int32_t reached : queue_) {
      spread_stuck_[At(reached)] = 1;
      for (int32_t i = spreads_[At(reached)].first_edge; i < spreads_[At(reached)].end_edge; ++i) {
        if (group_of_rank_[At(edges_[At(i)].rank)] == group) rank_stuck_[At(edges_[At(i)].rank)] = 1;
      }
    }
    return false;
  }
  int64_t amount = std::min(room_[At(goal)], spreads_[At(spread)].excess);
  for (int32_t at = goal;;) {
    const int32_t from = edges_[At(rank_via_[At(at)])].spread;
    if (from == spread) break;
    amount = std::min(amount, edges_[At(spread_via_[At(from)])].flow);
    at = edges_[At(spread_via_[At(from)])].rank;
  }
  room_[At(goal)] -= amount;
  spreads_[At(spread)].excess -= amount;
  for (int32_t at = goal;;) {
    edges_[At(rank_via_[At(at)])].flow += amount;
    const int32_t from = edges_[At(rank_via_[At(at)])].spread;
    if (from == spread) return true;
    edges_[At(spread_via_[At(from)])].flow -= amount;
    at = edges_[At(spread_via_[At(from)])].rank;
  }
}

LevelSolver::Group LevelSolver::SplitOffStuck(Group& group) {
  Group stuck = group;
  stuck.end_rank = group.first_rank = Partition(order_ranks_, group.first_rank, group.end_rank, rank_stuck_);
  stuck.end_spread = group.first_spread =
      Partition(order_spreads_, group.first_spread, group.end_spread, spread_stuck_);
  stuck.id = static_cast<int32_t>(group_speeds_.size());
  group_speeds_.push_back(0);
  for (int32_t i = stuck.first_rank; i < stuck.end_rank; ++i) group_of_rank_[At(order_ranks_[At(i)])] = stuck.id;
  for (int32_t i = stuck.first_spread; i < stuck.end_spread; ++i) {
    group_of_spread_[At(order_spreads_[At(i)])] = stuck.id;
  }
  return stuck;
}

void LevelSolver::CopyFlows(std::span<int64_t> flows) const {
  for (const Edge& edge : edges_) flows[At(edge.slot)] = edge.flow;
}

Shares LevelSolver::SharesOf() const {
  Shares shares(slots_.size(), 1.0);
  for (const Spread& spread : spreads_) {
    int64_t sum = 0;
    for (int32_t i = spread.first_edge; i < spread.end_edge; ++i) sum += edges_[At(i)].flow;
    const double even = 1.0 / static_cast<double>(spread.end_edge - spread.first_edge);
    double* share = &shares[At(offsets_[At(spread.expert)])];
    for (int32_t i = spread.first_edge; i < spread.end_edge; ++i, ++share) {
      *share = sum > 0 ? static_cast<double>(edges_[At(i)].flow) / static_cast<double>(sum) : even;
    }
  }
  return shares;
}

}  // namespace evenkeel::algos
