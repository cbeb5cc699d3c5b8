// SPDX-License-Identifier: Apache-2.0
//
// ShareFlow: which rank does how much of an expert's work, as a flow that is found by dividing.
//
// Model: a spread is the work of an expert that several ranks may do; its edges lead to these ranks, which have room.
// A group is ranks and spreads that settle loads among themselves. Give every rank of a group as much room as its mean
// level leaves and let flow what can (RouteExcess). If all fits, the group is level and done. Otherwise the ranks that
// no path with room leaves, with the spreads that are confined to them, must end above the mean and the others below
// it; neither can help the other, so each goes on by itself (SplitOffStuck). The first group done, the stuck ones
// going first, is the fullest: its mean is the least possible maximum and its spreads are the proof. Every division
// settles ranks, so there are fewer than 2 * num_ranks flows. Units, and what a level is, are the caller's.
//
// Order:     ties go to the lowest id; same input, same result, whatever was solved before.
// Threads:   none; scratch is kept from call to call.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace evenkeel::algos {

class ShareFlow {
 public:
  struct Spread {
    int32_t expert = 0;
    int32_t first_edge = 0, end_edge = 0;
    int64_t tokens = 0;
    int64_t excess = 0;  // what no edge carries yet
  };
  struct Edge {
    int32_t spread = 0, rank = 0;
    int64_t flow = 0;
  };
  struct Group {
    int32_t first_rank = 0, end_rank = 0, first_spread = 0, end_spread = 0, id = 0;
  };

  // A network: Clear, then each spread with its edges, then Index.
  void Clear();
  void AddSpread(int32_t expert, int64_t tokens);
  void AddEdge(int32_t rank);  // of the spread added last; its ranks ascend
  void Index(int num_ranks);

  std::span<Spread> spreads() { return spreads_; }
  std::span<const Spread> spreads() const { return spreads_; }
  std::span<Edge> edges() { return edges_; }
  std::span<const Edge> edges() const { return edges_; }
  std::span<const Edge> edges_of(const Spread& spread) const {
    return std::span(edges_).subspan(static_cast<size_t>(spread.first_edge),
                                     static_cast<size_t>(spread.end_edge - spread.first_edge));
  }
  // Indices of the edges that lead to the rank, ascending.
  std::span<const int32_t> edges_to(int32_t rank) const {
    const size_t first = static_cast<size_t>(first_of_rank_[static_cast<size_t>(rank)]);
    return std::span(edges_of_rank_)
        .subspan(first, static_cast<size_t>(first_of_rank_[static_cast<size_t>(rank) + 1]) - first);
  }

  // Begins anew: all spreads with tokens and those of the ranks for which `takes_part` [num_ranks] is not 0, in one
  // group. Requires: no edge of a spread with tokens leads elsewhere.
  Group Begin(std::span<const uint8_t> takes_part);

  std::span<const int32_t> ranks_in(const Group& group) const {
    return Part(order_ranks_, group.first_rank, group.end_rank);
  }
  std::span<const int32_t> spreads_in(const Group& group) const {
    return Part(order_spreads_, group.first_spread, group.end_spread);
  }
  int32_t group_of_rank(int32_t rank) const { return group_of_rank_[static_cast<size_t>(rank)]; }
  int32_t group_of_spread(int32_t spread) const { return group_of_spread_[static_cast<size_t>(spread)]; }
  int num_groups() const { return num_groups_; }
  // Whether the edge leads to a rank of the group. Others of a group's spreads lead to groups that are full.
  bool IsOpen(const Edge& edge, const Group& group) const { return group_of_rank(edge.rank) == group.id; }

  // Before RouteExcess the caller sets, within the group, each rank's room, each edge's flow (0 where closed) and each
  // spread's excess, and says which ranks are beyond their room by themselves.
  int64_t& room(int32_t rank) { return room_[static_cast<size_t>(rank)]; }
  void SetStuck(int32_t rank, bool stuck) { rank_stuck_[static_cast<size_t>(rank)] = stuck ? 1 : 0; }
  // Sends all excess to ranks with room, by shortest paths; false if some finds none: what holds it up is stuck then.
  bool RouteExcess(const Group& group);
  // Takes what is stuck out of `group`.
  Group SplitOffStuck(Group& group);

 private:
  static std::span<const int32_t> Part(const std::vector<int32_t>& order, int32_t first, int32_t end) {
    return std::span(order).subspan(static_cast<size_t>(first), static_cast<size_t>(end - first));
  }
  bool Augment(int32_t spread, int32_t group);

  // The network.
  std::vector<Spread> spreads_;
  std::vector<Edge> edges_;
  std::vector<int32_t> edges_of_rank_, first_of_rank_;
  // Since Begin.
  std::vector<int64_t> room_;
  std::vector<int32_t> order_ranks_, order_spreads_;
  std::vector<int32_t> group_of_rank_, group_of_spread_;
  int32_t num_groups_ = 0;
  std::vector<uint8_t> rank_stuck_, spread_stuck_;
  std::vector<int32_t> rank_via_, spread_via_;     // edge by which the search came
  std::vector<uint32_t> rank_seen_, spread_seen_;  // number of the search that came last
  uint32_t search_ = 0;
  std::vector<int32_t> queue_;
};

}  // namespace evenkeel::algos
