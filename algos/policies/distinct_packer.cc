// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/distinct_packer.h"

#include <algorithm>
#include <limits>

#include "algos/base/check.h"

namespace evenkeel::algos {

namespace {

constexpr int kLoadBits = 40, kIdxBits = 24;
constexpr uint64_t kLoadMax = (uint64_t{1} << kLoadBits) - 1;
constexpr uint64_t kIdxMask = (uint64_t{1} << kIdxBits) - 1;
constexpr int kScaledSumBits = 38;
constexpr uint64_t kIdleWeight = 1 << 12;

uint64_t LightestFirst(uint64_t load, size_t idx) { return load << kIdxBits | idx; }
uint64_t HeaviestFirst(uint64_t load, size_t idx) { return (kLoadMax - load) << kIdxBits | idx; }
size_t IdxOf(uint64_t key) { return key & kIdxMask; }

}  // namespace

void ScaleWeights(std::span<const uint64_t> tokens, std::vector<uint64_t>& weights) {
  unsigned __int128 sum = 0;
  for (uint64_t count : tokens) sum += count;
  int down = -kScaledSumBits;
  for (unsigned __int128 rest = sum; rest > 0; rest >>= 1) ++down;
  weights.resize(tokens.size());
  for (size_t e = 0; e < tokens.size(); ++e) {
    weights[e] = kIdleWeight + (down > 0 ? tokens[e] >> down : tokens[e] << -down);
  }
}

void DistinctPacker::Pack(std::span<const ExpertId> experts, std::span<const uint64_t> weights,
                          const PackTarget& target, std::vector<std::vector<ExpertId>>& contents) {
  target_ = target;
  const size_t num_ranks = target.ranks.size();
  EVENKEEL_CHECK(num_ranks * static_cast<size_t>(target.slots_per_rank) >= experts.size());
  Replicate(experts, weights);
  items_.resize(num_ranks);
  for (auto& items : items_) items.clear();
  loads_.assign(num_ranks, 0);
  lightest_.Reset(num_ranks, [](size_t i) { return LightestFirst(0, i); });
  for (uint64_t item : order_) {
    const size_t position = item & 0xFFFFFFFFu, count = counts_[position];
    const Replica replica{experts[position], weights[experts[position].idx()] / count};
    if (count == 1) {
      PlaceOne(replica);
    } else {
      PlaceApart(replica, count);
    }
  }
  for (size_t i = 0; i < num_ranks; ++i) {
    std::vector<ExpertId>& content = contents[target.ranks[i].idx()];
    for (const Replica& replica : items_[i]) content.push_back(replica.expert);
  }
}

// Counts replicas so that the heaviest one weighs least, at most one per rank, and orders the experts.
void DistinctPacker::Replicate(std::span<const ExpertId> experts, std::span<const uint64_t> weights) {
  const size_t n = experts.size(), num_ranks = target_.ranks.size();
  const size_t room = num_ranks * static_cast<size_t>(target_.slots_per_rank);
  counts_.assign(n, 1);
  if (num_ranks > 1 && room > n) {
    heaviest_.Reset(n, [&](size_t i) { return HeaviestFirst(weights[experts[i].idx()], i); });
    for (size_t left = std::min(room, n * num_ranks) - n; left > 0; --left) {
      const size_t i = IdxOf(heaviest_.least());
      const uint32_t count = ++counts_[i];
      heaviest_.Update(i, count == num_ranks ? MinTree::kAbsent : HeaviestFirst(weights[experts[i].idx()] / count, i));
    }
  }
  order_.resize(n);
  for (size_t i = 0; i < n; ++i) {
    const uint64_t weight = weights[experts[i].idx()] / counts_[i];
    order_[i] = (kLoadMax - weight) >> (kLoadBits - 32) << 32 | i;
  }
  sorter_.Sort(order_);
}

void DistinctPacker::PlaceOne(Replica replica) {
  const size_t i = IdxOf(lightest_.least());
  Put(i, replica);
  Refresh(i);
}

// Lightest ranks first, each on a node that has no replica of the expert yet; when no such node has room, the
// lightest others; when only ranks that hold it have room, one of those trades.
void DistinctPacker::PlaceApart(Replica replica, size_t count) {
  withdrawn_.clear();
  bool by_node = target_.node[target_.ranks.front().idx()] != target_.node[target_.ranks.back().idx()];
  for (; count > 0; --count) {
    if (by_node && lightest_.least() == MinTree::kAbsent) {
      by_node = false;
      for (size_t i : withdrawn_) {
        if (!Holds(i, replica.expert)) Refresh(i);
      }
    }
    if (lightest_.least() == MinTree::kAbsent) {
      MakeRoom(replica);
      continue;
    }
    const size_t i = IdxOf(lightest_.least());
    Put(i, replica);
    Withdraw(i);
    if (!by_node) continue;
    const uint32_t node = target_.node[target_.ranks[i].idx()];
    for (size_t j = i; j-- > 0 && target_.node[target_.ranks[j].idx()] == node;) Withdraw(j);
    for (size_t j = i + 1; j < loads_.size() && target_.node[target_.ranks[j].idx()] == node; ++j) Withdraw(j);
  }
  for (size_t i : withdrawn_) Refresh(i);
}

// Every rank with room holds the expert. A full rank that does not hold it gives some other expert to one with
// room; as the full one has more experts, at least two of its are not there. Chosen so that the heavier of the
// two ends lightest.
void DistinctPacker::MakeRoom(Replica replica) {
  const size_t num_ranks = loads_.size();
  size_t to = num_ranks;
  for (size_t i = 0; i < num_ranks; ++i) {
    if (!IsFull(i) && (to == num_ranks || loads_[i] < loads_[to])) to = i;
  }
  EVENKEEL_CHECK(to < num_ranks);
  uint64_t least = std::numeric_limits<uint64_t>::max();
  size_t from = num_ranks, given = 0;
  for (size_t i = 0; i < num_ranks; ++i) {
    if (!IsFull(i) || Holds(i, replica.expert)) continue;
    for (size_t at = 0; at < items_[i].size(); ++at) {
      if (Holds(to, items_[i][at].expert)) continue;
      const uint64_t weight = items_[i][at].weight;
      const uint64_t heavier = std::max(loads_[i] - weight + replica.weight, loads_[to] + weight);
      if (heavier < least) {
        least = heavier;
        from = i;
        given = at;
      }
    }
  }
  EVENKEEL_CHECK(from < num_ranks);
  Put(to, items_[from][given]);
  loads_[from] -= items_[from][given].weight;
  items_[from].erase(items_[from].begin() + static_cast<std::ptrdiff_t>(given));
  Put(from, replica);
}

bool DistinctPacker::Holds(size_t i, ExpertId expert) const {
  return std::any_of(items_[i].begin(), items_[i].end(),
                     [expert](const Replica& replica) { return replica.expert == expert; });
}

void DistinctPacker::Put(size_t i, Replica replica) {
  items_[i].push_back(replica);
  loads_[i] += replica.weight;
}

void DistinctPacker::Refresh(size_t i) {
  lightest_.Update(i, IsFull(i) ? MinTree::kAbsent : LightestFirst(loads_[i], i));
}

void DistinctPacker::Withdraw(size_t i) {
  lightest_.Update(i, MinTree::kAbsent);
  withdrawn_.push_back(i);
}

}  // namespace evenkeel::algos
