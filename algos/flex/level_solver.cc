// SPDX-License-Identifier: Apache-2.0
#include "algos/flex/level_solver.h"

#include <algorithm>

#include "algos/base/check.h"

namespace evenkeel::algos {

namespace {

size_t At(int32_t index) { return static_cast<size_t>(index); }

constexpr int32_t kNowhere = -1;
constexpr int32_t kSeveral = -2;

}  // namespace

LevelSolver::LevelSolver(std::span<const int32_t> speeds) : speeds_(speeds.begin(), speeds.end()) {
  levels_.assign(speeds_.size(), 0);
  base_.assign(speeds_.size(), 0);
  for (int32_t speed : speeds_) takes_part_.push_back(speed > 0 ? 1 : 0);
}

void LevelSolver::Wire(const Shape& shape, const Placement& placement) {
  const size_t num_experts = At(shape.num_experts);
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
  flow_.Clear();
  slot_of_edge_.clear();
  for (size_t e = 0; e < num_experts; ++e) {
    const int32_t first = offsets_[e], end = offsets_[e + 1];
    if (first == end) continue;
    if (end - first == 1) {
      sole_rank_[e] = slots_[At(first)] / shape.slots_per_rank;
      continue;
    }
    sole_rank_[e] = kSeveral;
    flow_.AddSpread(static_cast<int32_t>(e), 0);
    for (int32_t i = first; i < end; ++i) {
      flow_.AddEdge(slots_[At(i)] / shape.slots_per_rank);
      slot_of_edge_.push_back(slots_[At(i)]);
    }
  }
  flow_.Index(static_cast<int>(speeds_.size()));
}

void LevelSolver::Load(std::span<const int64_t> tokens, int64_t replica_cost, std::span<const int64_t> start) {
  std::ranges::fill(base_, 0);
  for (size_t e = 0; e < tokens.size(); ++e) {
    if (sole_rank_[e] >= 0) base_[At(sole_rank_[e])] += tokens[e] + (tokens[e] > 0 ? replica_cost : 0);
  }
  const std::span<ShareFlow::Edge> edges = flow_.edges();
  for (ShareFlow::Spread& spread : flow_.spreads()) {
    spread.tokens = tokens[At(spread.expert)];
    int64_t left = spread.tokens;
    const int64_t even = spread.tokens / (spread.end_edge - spread.first_edge);
    for (int32_t i = spread.first_edge; i < spread.end_edge; ++i) {
      ShareFlow::Edge& edge = edges[At(i)];
      edge.flow = std::min(left, start.empty() ? even : start[At(slot_of_edge_[At(i)])]);
      if (i + 1 == spread.end_edge) edge.flow = left;
      left -= edge.flow;
      if (spread.tokens > 0) base_[At(edge.rank)] += replica_cost;
    }
  }
  group_speeds_.assign(1, 0);
}

void LevelSolver::Solve(std::span<const int64_t> tokens, int64_t replica_cost, std::span<const int64_t> start,
                        double settle) {
  EVENKEEL_CHECK(tokens.size() == sole_rank_.size());
  Load(tokens, replica_cost, start);
  max_level_ = 0;
  perfect_ = 0;
  pending_.assign(1, flow_.Begin(takes_part_));
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
    const Group stuck = flow_.SplitOffStuck(group);
    group_speeds_.push_back(0);
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
  for (int32_t rank : flow_.ranks_in(group)) {
    totals.cost += base_[At(rank)];
    totals.speed += speeds_[At(rank)];
  }
  for (int32_t spread : flow_.spreads_in(group)) totals.cost += flow_.spreads()[At(spread)].tokens;
  return totals;
}

void LevelSolver::Settle(const Group& group, double level, int64_t speed) {
  for (int32_t rank : flow_.ranks_in(group)) levels_[At(rank)] = level;
  group_speeds_[At(group.id)] = static_cast<int32_t>(speed);
  max_level_ = std::max(max_level_, level);
}

// Gives every rank room for its part of `cost`, keeps the flows that fit and finds ways for the rest. False if
// there is none for some: what holds it up is stuck.
bool LevelSolver::Fill(const Group& group, int64_t cost, int64_t speed) {
  for (int32_t rank : flow_.ranks_in(group)) {
    const int64_t room = (cost * speeds_[At(rank)] + speed - 1) / speed - base_[At(rank)];
    flow_.room(rank) = room;
    flow_.SetStuck(rank, room < 0);
  }
  const std::span<ShareFlow::Edge> edges = flow_.edges();
  for (int32_t s : flow_.spreads_in(group)) {
    ShareFlow::Spread& spread = flow_.spreads()[At(s)];
    int64_t left = spread.tokens;
    for (int32_t i = spread.first_edge; i < spread.end_edge; ++i) {
      ShareFlow::Edge& edge = edges[At(i)];
      if (!flow_.IsOpen(edge, group)) {
        edge.flow = 0;
        continue;
      }
      int64_t& room = flow_.room(edge.rank);
      edge.flow = std::min({edge.flow, left, std::max<int64_t>(room, 0)});
      room -= edge.flow;
      left -= edge.flow;
    }
    spread.excess = left;
  }
  return flow_.RouteExcess(group);
}

void LevelSolver::CopyFlows(std::span<int64_t> flows) const {
  for (size_t i = 0; i < slot_of_edge_.size(); ++i) flows[At(slot_of_edge_[i])] = flow_.edges()[i].flow;
}

Shares LevelSolver::SharesOf() const {
  Shares shares(slots_.size(), 1.0);
  for (const ShareFlow::Spread& spread : flow_.spreads()) {
    int64_t sum = 0;
    for (const ShareFlow::Edge& edge : flow_.edges_of(spread)) sum += edge.flow;
    const double even = 1.0 / static_cast<double>(spread.end_edge - spread.first_edge);
    double* share = &shares[At(offsets_[At(spread.expert)])];
    for (const ShareFlow::Edge& edge : flow_.edges_of(spread)) {
      *share++ = sum > 0 ? static_cast<double>(edge.flow) / static_cast<double>(sum) : even;
    }
  }
  return shares;
}

}  // namespace evenkeel::algos
