// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/relabel.h"

#include <algorithm>
#include <span>

#include "algos/base/check.h"

namespace evenkeel::algos {

namespace {

// Worse than any assignment among nodes of equal size.
constexpr int32_t kUnfit = -(1 << 20);

// Up to this many ranks nodes are compared by what the best assignment of their ranks keeps; beyond it by the
// experts that they have in common.
constexpr int kCompareRanksMax = 64;

}  // namespace

Placement Relabeler::Apply(const std::vector<std::vector<ExpertId>>& contents, const Placement* current) {
  const Shape& shape = cluster_.shape;
  EVENKEEL_CHECK(contents.size() == static_cast<size_t>(shape.num_ranks));
  rank_of_.resize(contents.size());
  for (size_t rank = 0; rank < contents.size(); ++rank) rank_of_[rank] = RankId(static_cast<int32_t>(rank));
  if (current != nullptr) {
    CountKept(contents, *current);
    AssignNodes();
  }
  Placement placed;
  placed.expert_of_slot.assign(static_cast<size_t>(shape.num_slots()), kNoExpert);
  for (size_t rank = 0; rank < contents.size(); ++rank) {
    PlaceRank(contents[rank], rank_of_[rank], current, placed);
  }
  return placed;
}

void Relabeler::CountKept(const std::vector<std::vector<ExpertId>>& contents, const Placement& current) {
  const Shape& shape = cluster_.shape;
  const size_t num_ranks = contents.size();
  const Replicas replicas = Invert(current, shape.num_experts);
  kept_.assign(num_ranks * num_ranks, 0);
  std::vector<RankId> rank_of_slot(replicas.slots.size());
  for (size_t i = 0; i < replicas.slots.size(); ++i) rank_of_slot[i] = shape.RankOf(replicas.slots[i]);
  for (size_t planned = 0; planned < num_ranks; ++planned) {
    for (ExpertId expert : contents[planned]) {
      RankId last;
      for (int32_t i = replicas.offsets[expert.idx()]; i < replicas.offsets[expert.idx() + 1]; ++i) {
        const RankId rank = rank_of_slot[static_cast<size_t>(i)];
        if (rank != last) ++kept_[planned * num_ranks + rank.idx()];
        last = rank;
      }
    }
  }
}

void Relabeler::AssignNodes() {
  const size_t num_nodes = cluster_.nodes.size();
  if (num_nodes == 1) {
    AssignRanks(0, 0);
    return;
  }
  node_values_.resize(num_nodes * num_nodes);
  for (size_t from = 0; from < num_nodes; ++from) {
    for (size_t to = 0; to < num_nodes; ++to) {
      const bool fits = cluster_.nodes[from].size() == cluster_.nodes[to].size();
      node_values_[from * num_nodes + to] = fits ? BestKept(from, to) : kUnfit;
    }
  }
  const auto to_node = node_assigner_.Solve(node_values_, num_nodes);
  for (size_t from = 0; from < num_nodes; ++from) {
    // The bounded method may leave over nodes that do not fit each other.
    if (cluster_.nodes[from].size() != cluster_.nodes[to_node[from]].size()) {
      for (size_t node = 0; node < num_nodes; ++node) AssignRanks(node, node);
      return;
    }
  }
  for (size_t from = 0; from < num_nodes; ++from) AssignRanks(from, to_node[from]);
}

int32_t Relabeler::BestKept(size_t from_node, size_t to_node) {
  const auto& from = cluster_.nodes[from_node];
  const auto& to = cluster_.nodes[to_node];
  const size_t num_ranks = static_cast<size_t>(cluster_.shape.num_ranks), n = from.size();
  rank_values_.resize(n * n);
  int32_t sum = 0;
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      rank_values_[i * n + j] = kept_[from[i].idx() * num_ranks + to[j].idx()];
      sum += rank_values_[i * n + j];
    }
  }
  if (cluster_.shape.num_ranks > kCompareRanksMax) return sum;
  const auto chosen = rank_assigner_.Solve(rank_values_, n);
  int32_t best = 0;
  for (size_t i = 0; i < n; ++i) best += rank_values_[i * n + chosen[i]];
  return best;
}

void Relabeler::AssignRanks(size_t from_node, size_t to_node) {
  const auto& from = cluster_.nodes[from_node];
  const auto& to = cluster_.nodes[to_node];
  const size_t num_ranks = static_cast<size_t>(cluster_.shape.num_ranks), n = from.size();
  rank_values_.resize(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) rank_values_[i * n + j] = kept_[from[i].idx() * num_ranks + to[j].idx()];
  }
  const auto chosen = rank_assigner_.Solve(rank_values_, n);
  for (size_t i = 0; i < n; ++i) rank_of_[from[i].idx()] = to[chosen[i]];
}

void Relabeler::PlaceRank(const std::vector<ExpertId>& content, RankId rank, const Placement* current,
                          Placement& placed) {
  const Shape& shape = cluster_.shape;
  EVENKEEL_CHECK(content.size() <= static_cast<size_t>(shape.slots_per_rank));
  const size_t first = shape.SlotAt(rank, 0).idx(), count = static_cast<size_t>(shape.slots_per_rank);
  const auto slots = std::span(placed.expert_of_slot).subspan(first, count);
  coming_.clear();
  for (ExpertId expert : content) {
    size_t held = count;
    if (current != nullptr) {
      const auto now = std::span(current->expert_of_slot).subspan(first, count);
      held = static_cast<size_t>(std::find(now.begin(), now.end(), expert) - now.begin());
      while (held < count && slots[held] != kNoExpert) {
        held = static_cast<size_t>(std::find(now.begin() + static_cast<std::ptrdiff_t>(held) + 1, now.end(), expert) -
                                   now.begin());
      }
    }
    if (held < count) {
      slots[held] = expert;
    } else {
      coming_.push_back(expert);
    }
  }
  size_t slot = 0;
  for (ExpertId expert : coming_) {
    while (slots[slot] != kNoExpert) ++slot;
    slots[slot] = expert;
  }
}

}  // namespace evenkeel::algos
