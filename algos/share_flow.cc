// SPDX-License-Identifier: Apache-2.0
#include "algos/share_flow.h"

#include <algorithm>
#include <utility>

namespace evenkeel::algos {

namespace {

size_t At(int32_t index) { return static_cast<size_t>(index); }

// Moves the indices for which `stuck` holds to the front; returns the end of these.
int32_t Partition(std::vector<int32_t>& order, int32_t first, int32_t end, const std::vector<uint8_t>& stuck) {
  int32_t middle = first;
  for (int32_t i = first; i < end; ++i) {
    if (stuck[At(order[At(i)])] != 0) std::swap(order[At(i)], order[At(middle++)]);
  }
  return middle;
}

}  // namespace

void ShareFlow::Clear() {
  spreads_.clear();
  edges_.clear();
}

void ShareFlow::AddSpread(int32_t expert, int64_t tokens) {
  const int32_t first = static_cast<int32_t>(edges_.size());
  spreads_.push_back({.expert = expert, .first_edge = first, .end_edge = first, .tokens = tokens});
}

void ShareFlow::AddEdge(int32_t rank) {
  edges_.push_back({.spread = static_cast<int32_t>(spreads_.size()) - 1, .rank = rank});
  ++spreads_.back().end_edge;
}

void ShareFlow::Index(int num_ranks) {
  first_of_rank_.assign(At(num_ranks) + 1, 0);
  for (const Edge& edge : edges_) ++first_of_rank_[At(edge.rank) + 1];
  for (size_t r = 0; r < At(num_ranks); ++r) first_of_rank_[r + 1] += first_of_rank_[r];
  edges_of_rank_.resize(edges_.size());
  queue_.assign(first_of_rank_.begin(), first_of_rank_.end());
  for (size_t i = 0; i < edges_.size(); ++i) {
    edges_of_rank_[At(queue_[At(edges_[i].rank)]++)] = static_cast<int32_t>(i);
  }
}

ShareFlow::Group ShareFlow::Begin(std::span<const uint8_t> takes_part) {
  order_ranks_.clear();
  order_spreads_.clear();
  for (size_t r = 0; r < takes_part.size(); ++r) {
    if (takes_part[r] != 0) order_ranks_.push_back(static_cast<int32_t>(r));
  }
  for (size_t s = 0; s < spreads_.size(); ++s) {
    if (spreads_[s].tokens > 0) order_spreads_.push_back(static_cast<int32_t>(s));
  }
  room_.assign(takes_part.size(), 0);
  group_of_rank_.assign(takes_part.size(), 0);
  rank_stuck_.assign(takes_part.size(), 0);
  rank_via_.assign(takes_part.size(), 0);
  rank_seen_.assign(takes_part.size(), 0);
  group_of_spread_.assign(spreads_.size(), 0);
  spread_stuck_.assign(spreads_.size(), 0);
  spread_via_.assign(spreads_.size(), 0);
  spread_seen_.assign(spreads_.size(), 0);
  search_ = 0;
  num_groups_ = 1;
  return {.end_rank = static_cast<int32_t>(order_ranks_.size()),
          .end_spread = static_cast<int32_t>(order_spreads_.size())};
}

bool ShareFlow::RouteExcess(const Group& group) {
  bool all_fit = true;
  for (int32_t rank : ranks_in(group)) all_fit = all_fit && rank_stuck_[At(rank)] == 0;
  for (int32_t spread : spreads_in(group)) spread_stuck_[At(spread)] = 0;
  for (int32_t spread : spreads_in(group)) {
    while (spreads_[At(spread)].excess > 0) {
      if (spread_stuck_[At(spread)] == 0 && Augment(spread, group.id)) continue;
      all_fit = false;
      break;
    }
  }
  return all_fit;
}

// Sends excess of `spread` along a shortest path to a rank with room. If there is none, everything that was reached
// is stuck.
bool ShareFlow::Augment(int32_t spread, int32_t group) {
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
        const int32_t back = edges_of_rank_[At(j)];
        const int32_t next = edges_[At(back)].spread;
        if (edges_[At(back)].flow == 0 || spread_seen_[At(next)] == search_) continue;
        spread_seen_[At(next)] = search_;
        spread_via_[At(next)] = back;
        queue_.push_back(next);
      }
    }
  }
  if (goal < 0) {
    for (int32_t reached : queue_) {
      spread_stuck_[At(reached)] = 1;
      for (const Edge& edge : edges_of(spreads_[At(reached)])) {
        if (group_of_rank_[At(edge.rank)] == group) rank_stuck_[At(edge.rank)] = 1;
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

ShareFlow::Group ShareFlow::SplitOffStuck(Group& group) {
  Group stuck = group;
  stuck.end_rank = group.first_rank = Partition(order_ranks_, group.first_rank, group.end_rank, rank_stuck_);
  stuck.end_spread = group.first_spread =
      Partition(order_spreads_, group.first_spread, group.end_spread, spread_stuck_);
  stuck.id = num_groups_++;
  for (int32_t rank : ranks_in(stuck)) group_of_rank_[At(rank)] = stuck.id;
  for (int32_t spread : spreads_in(stuck)) group_of_spread_[At(spread)] = stuck.id;
  return stuck;
}

}  // namespace evenkeel::algos
