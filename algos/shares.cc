// SPDX-License-Identifier: Apache-2.0
//
// Loads are settled by dividing: give every rank of a group the group's mean as capacity and let flow what
// can. If all fits, all ranks are at the mean and the group is done. Otherwise the ranks that no path with
// room leaves, with the experts that are confined to them, must end above the mean and the others below it;
// neither can help the other, so each goes on by itself. The first group done is the fullest: its mean is the
// optimum and its experts are the proof. Every division settles ranks, so there are fewer than 2 * num_ranks
// flows.
#include "algos/shares.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "algos/base/check.h"

namespace evenkeel::algos {

namespace {

size_t At(int32_t index) { return static_cast<size_t>(index); }

// The end of the run of replicas that lie on the same rank as the one at `first`.
size_t EndOfRank(const Shape& shape, const Replicas& replicas, size_t first, size_t end) {
  const RankId rank = shape.RankOf(replicas.slots[first]);
  size_t at = first + 1;
  while (at < end && shape.RankOf(replicas.slots[at]) == rank) ++at;
  return at;
}

// Moves the indices for which `stuck` holds to the front; returns the end of these.
int32_t Partition(std::vector<int32_t>& order, int32_t first, int32_t end, const std::vector<uint8_t>& stuck) {
  int32_t middle = first;
  for (int32_t i = first; i < end; ++i) {
    if (stuck[At(order[At(i)])] != 0) std::swap(order[At(i)], order[At(middle++)]);
  }
  return middle;
}

}  // namespace

SharesResult SharesSolver::Solve(const Shape& shape, const Replicas& replicas, std::span<const uint64_t> tokens,
                                 std::span<const double> previous) {
  EVENKEEL_CHECK(tokens.size() + 1 == replicas.offsets.size());
  EVENKEEL_CHECK(previous.empty() || previous.size() == replicas.slots.size());
  ReadProblem(shape, replicas, tokens, previous);
  SharesResult result;
  if (!order_ranks_.empty()) {
    const Group fullest = SettleLoads();
    result.certificate = CertificateOf(fullest, shape, replicas);
    double sum = 0;
    for (ExpertId expert : result.certificate.experts) sum += static_cast<double>(tokens[expert.idx()]);
    result.max_rank_load = sum / static_cast<double>(result.certificate.ranks.size());
  }
  result.shares = SharesOf(shape, replicas);
  return result;
}

void SharesSolver::ReadProblem(const Shape& shape, const Replicas& replicas, std::span<const uint64_t> tokens,
                               std::span<const double> previous) {
  const size_t num_ranks = At(shape.num_ranks);
  // Whole numbers must fit, and be fine enough for shares of a few tokens.
  unsigned __int128 total = 0;
  for (uint64_t count : tokens) total += count;
  int halvings = 0, doublings = 0;
  while ((total >> halvings) * num_ranks > uint64_t{1} << 62) ++halvings;
  while (total > 0 && (total << doublings) * num_ranks < uint64_t{1} << 52) ++doublings;

  tokens_.assign(tokens.size(), 0);
  base_.assign(num_ranks, 0);
  room_.assign(num_ranks, 0);
  spreads_.clear();
  edges_.clear();
  for (size_t e = 0; e < tokens.size(); ++e) {
    const size_t first = At(replicas.offsets[e]), end = At(replicas.offsets[e + 1]);
    const int64_t count = static_cast<int64_t>(tokens[e] >> halvings << doublings);
    if (count == 0 || first == end) continue;
    tokens_[e] = count;
    if (end - first == 1 || EndOfRank(shape, replicas, first, end) == end) {
      base_[shape.RankOf(replicas.slots[first]).idx()] += count;
    } else {
      AddSpread(shape, replicas, static_cast<int32_t>(e), previous);
    }
  }
  IndexEdges();
}

void SharesSolver::AddSpread(const Shape& shape, const Replicas& replicas, int32_t expert,
                             std::span<const double> previous) {
  const size_t first = At(replicas.offsets[At(expert)]), end = At(replicas.offsets[At(expert) + 1]);
  const double even = 1.0 / static_cast<double>(end - first);
  double sum = 0;
  if (!previous.empty()) {
    for (size_t i = first; i < end; ++i) sum += previous[i];
  }
  const double pull = sum > 0 ? options_.pull_to_even : 1.0;
  Spread spread;
  spread.expert = expert;
  spread.tokens = tokens_[At(expert)];
  spread.first_edge = static_cast<int32_t>(edges_.size());
  for (size_t at = first; at < end;) {
    Edge edge;
    edge.spread = static_cast<int32_t>(spreads_.size());
    edge.rank = shape.RankOf(replicas.slots[at]).value();
    for (const size_t next = EndOfRank(shape, replicas, at, end); at < next; ++at) {
      edge.preferred += pull * even;
      if (sum > 0) edge.preferred += (1.0 - pull) * previous[at] / sum;
    }
    edges_.push_back(edge);
  }
  spread.end_edge = static_cast<int32_t>(edges_.size());
  spreads_.push_back(spread);
}

void SharesSolver::IndexEdges() {
  const size_t num_ranks = base_.size();
  first_of_rank_.assign(num_ranks + 1, 0);
  for (const Edge& edge : edges_) ++first_of_rank_[At(edge.rank) + 1];
  order_ranks_.clear();
  for (size_t r = 0; r < num_ranks; ++r) {
    if (base_[r] > 0 || first_of_rank_[r + 1] > 0) order_ranks_.push_back(static_cast<int32_t>(r));
    first_of_rank_[r + 1] += first_of_rank_[r];
  }
  edges_of_rank_.resize(edges_.size());
  queue_.assign(first_of_rank_.begin(), first_of_rank_.end());
  for (size_t i = 0; i < edges_.size(); ++i) {
    edges_of_rank_[At(queue_[At(edges_[i].rank)]++)] = static_cast<int32_t>(i);
  }
  order_spreads_.resize(spreads_.size());
  for (size_t s = 0; s < spreads_.size(); ++s) order_spreads_[s] = static_cast<int32_t>(s);
  num_groups_ = 1;
  search_ = 0;
  group_of_rank_.assign(num_ranks, 0);
  rank_stuck_.assign(num_ranks, 0);
  rank_seen_.assign(num_ranks, 0);
  rank_via_.assign(num_ranks, 0);
  group_of_spread_.assign(spreads_.size(), 0);
  spread_stuck_.assign(spreads_.size(), 0);
  spread_seen_.assign(spreads_.size(), 0);
  spread_via_.assign(spreads_.size(), 0);
}

SharesSolver::Group SharesSolver::SettleLoads() {
  Group fullest;
  Level settled{-1, 1};  // below it nothing more is done; known once the maximum is
  pending_.clear();
  pending_.push_back({0, static_cast<int32_t>(order_ranks_.size()), 0, static_cast<int32_t>(spreads_.size())});
  while (!pending_.empty()) {
    Group group = pending_.back();
    pending_.pop_back();
    const Level mean = MeanOf(group);
    const bool is_low =
        static_cast<__int128>(mean.tokens) * settled.unit <= static_cast<__int128>(settled.tokens) * mean.unit;
    if (FillUpTo(is_low ? settled : mean, group)) {
      if (settled.tokens < 0) {
        fullest = group;
        settled = {static_cast<int64_t>(static_cast<double>(mean.tokens) * options_.settle), mean.unit};
      }
      continue;
    }
    const Group stuck = SplitOffStuck(group);
    if (!is_low) pending_.push_back(group);
    pending_.push_back(stuck);
  }
  return fullest;
}

SharesSolver::Level SharesSolver::MeanOf(const Group& group) const {
  Level level{0, group.end_rank - group.first_rank};
  for (int32_t i = group.first_rank; i < group.end_rank; ++i) level.tokens += base_[At(order_ranks_[At(i)])];
  for (int32_t i = group.first_spread; i < group.end_spread; ++i) {
    level.tokens += spreads_[At(order_spreads_[At(i)])].tokens;
  }
  return level;
}

bool SharesSolver::FillUpTo(Level level, const Group& group) {
  for (int32_t i = group.first_spread; i < group.end_spread; ++i) {
    const int32_t s = order_spreads_[At(i)];
    spread_stuck_[At(s)] = 0;
    StartFromPreferred(spreads_[At(s)], s, level.unit);
  }
  bool all_fit = true;
  for (int32_t i = group.first_rank; i < group.end_rank; ++i) {
    const int32_t rank = order_ranks_[At(i)];
    room_[At(rank)] = level.tokens - base_[At(rank)] * level.unit;
    if (!ClipToRoom(rank)) all_fit = false;
  }
  for (int32_t i = group.first_spread; i < group.end_spread; ++i) {
    const int32_t s = order_spreads_[At(i)];
    while (spreads_[At(s)].excess > 0) {
      if (spread_stuck_[At(s)] != 0 || !Augment(s)) {
        all_fit = false;
        break;
      }
    }
  }
  return all_fit;
}

void SharesSolver::StartFromPreferred(Spread& spread, int32_t s, int64_t unit) {
  spread.unit = unit;
  spread.excess = 0;
  double sum = 0;
  int num_open = 0;
  for (int32_t i = spread.first_edge; i < spread.end_edge; ++i) {
    const Edge& edge = edges_[At(i)];
    if (!IsOpen(edge)) continue;
    sum += edge.preferred;
    ++num_open;
  }
  EVENKEEL_CHECK(num_open > 0 && edges_[At(spread.first_edge)].spread == s);
  const double demand = static_cast<double>(spread.tokens * unit);
  int64_t left = spread.tokens * unit;
  for (int32_t i = spread.first_edge; i < spread.end_edge; ++i) {
    Edge& edge = edges_[At(i)];
    edge.flow = 0;
    if (!IsOpen(edge)) continue;
    const double part = sum > 0 ? edge.preferred / sum : 1.0 / num_open;
    edge.flow = std::min(left, static_cast<int64_t>(demand * part));
    left -= edge.flow;
  }
  spread.excess = left;
}

// Takes back from the rank's edges, in proportion, what is more than it may get. False where its base load
// alone is more.
bool SharesSolver::ClipToRoom(int32_t rank) {
  int64_t inflow = 0;
  for (int32_t i = first_of_rank_[At(rank)]; i < first_of_rank_[At(rank) + 1]; ++i) {
    const Edge& edge = edges_[At(edges_of_rank_[At(i)])];
    if (IsOpen(edge)) inflow += edge.flow;
  }
  const bool fits = room_[At(rank)] >= 0;
  int64_t room = std::max<int64_t>(room_[At(rank)], 0);
  const double part = inflow > room ? static_cast<double>(room) / static_cast<double>(inflow) : 1.0;
  for (int32_t i = first_of_rank_[At(rank)]; i < first_of_rank_[At(rank) + 1]; ++i) {
    Edge& edge = edges_[At(edges_of_rank_[At(i)])];
    if (!IsOpen(edge)) continue;
    const int64_t wanted = part < 1.0 ? static_cast<int64_t>(static_cast<double>(edge.flow) * part) : edge.flow;
    const int64_t kept = std::min(wanted, room);
    spreads_[At(edge.spread)].excess += edge.flow - kept;
    edge.flow = kept;
    room -= kept;
  }
  room_[At(rank)] = room;
  rank_stuck_[At(rank)] = fits ? 0 : 1;
  return fits;
}

// Sends excess of spread `s` along a shortest path to a rank with room. If there is none, everything that was
// reached is stuck.
bool SharesSolver::Augment(int32_t s) {
  ++search_;
  queue_.assign(1, s);
  spread_seen_[At(s)] = search_;
  int32_t goal = -1;
  for (size_t head = 0; head < queue_.size() && goal < 0; ++head) {
    const Spread& from = spreads_[At(queue_[head])];
    for (int32_t i = from.first_edge; i < from.end_edge && goal < 0; ++i) {
      const int32_t rank = edges_[At(i)].rank;
      if (!IsOpen(edges_[At(i)]) || rank_seen_[At(rank)] == search_ || rank_stuck_[At(rank)] != 0) continue;
      rank_seen_[At(rank)] = search_;
      rank_via_[At(rank)] = i;
      if (room_[At(rank)] > 0) goal = rank;
      for (int32_t j = first_of_rank_[At(rank)]; j < first_of_rank_[At(rank) + 1] && goal < 0; ++j) {
        const int32_t back = edges_of_rank_[At(j)];
        const int32_t next = edges_[At(back)].spread;
        if (edges_[At(back)].flow == 0 || !IsOpen(edges_[At(back)]) || spread_seen_[At(next)] == search_) continue;
        spread_seen_[At(next)] = search_;
        spread_via_[At(next)] = back;
        queue_.push_back(next);
      }
    }
  }
  if (goal < 0) {
    for (int32_t reached : queue_) {
      spread_stuck_[At(reached)] = 1;
      for (int32_t i = spreads_[At(reached)].first_edge; i < spreads_[At(reached)].end_edge; ++i) {
        if (IsOpen(edges_[At(i)])) rank_stuck_[At(edges_[At(i)].rank)] = 1;
      }
    }
    return false;
  }
  int64_t amount = std::min(room_[At(goal)], spreads_[At(s)].excess);
  for (int32_t at = goal;;) {
    const int32_t spread = edges_[At(rank_via_[At(at)])].spread;
    if (spread == s) break;
    amount = std::min(amount, edges_[At(spread_via_[At(spread)])].flow);
    at = edges_[At(spread_via_[At(spread)])].rank;
  }
  room_[At(goal)] -= amount;
  spreads_[At(s)].excess -= amount;
  for (int32_t at = goal;;) {
    edges_[At(rank_via_[At(at)])].flow += amount;
    const int32_t spread = edges_[At(rank_via_[At(at)])].spread;
    if (spread == s) return true;
    edges_[At(spread_via_[At(spread)])].flow -= amount;
    at = edges_[At(spread_via_[At(spread)])].rank;
  }
}

SharesSolver::Group SharesSolver::SplitOffStuck(Group& group) {
  Group stuck = group;
  stuck.end_rank = group.first_rank = Partition(order_ranks_, group.first_rank, group.end_rank, rank_stuck_);
  stuck.end_spread = group.first_spread =
      Partition(order_spreads_, group.first_spread, group.end_spread, spread_stuck_);
  const int32_t id = num_groups_++;
  for (int32_t i = stuck.first_rank; i < stuck.end_rank; ++i) group_of_rank_[At(order_ranks_[At(i)])] = id;
  for (int32_t i = stuck.first_spread; i < stuck.end_spread; ++i) {
    group_of_spread_[At(order_spreads_[At(i)])] = id;
  }
  return stuck;
}

SharesCertificate SharesSolver::CertificateOf(const Group& group, const Shape& shape, const Replicas& replicas) const {
  SharesCertificate certificate;
  for (int32_t i = group.first_rank; i < group.end_rank; ++i) {
    certificate.ranks.push_back(RankId(order_ranks_[At(i)]));
  }
  std::sort(certificate.ranks.begin(), certificate.ranks.end());
  const int32_t id = group_of_rank_[At(order_ranks_[At(group.first_rank)])];
  size_t spread = 0;
  for (size_t e = 0; e < tokens_.size(); ++e) {
    if (tokens_[e] == 0) continue;
    const bool is_spread = spread < spreads_.size() && spreads_[spread].expert == static_cast<int32_t>(e);
    const RankId first = shape.RankOf(replicas.slots[At(replicas.offsets[e])]);
    const int32_t its = is_spread ? group_of_spread_[spread++] : group_of_rank_[first.idx()];
    if (its == id) certificate.experts.push_back(ExpertId(static_cast<int32_t>(e)));
  }
  return certificate;
}

Shares SharesSolver::SharesOf(const Shape& shape, const Replicas& replicas) const {
  Shares shares(replicas.slots.size());
  for (size_t e = 0; e < tokens_.size(); ++e) {
    const size_t first = At(replicas.offsets[e]), end = At(replicas.offsets[e + 1]);
    for (size_t i = first; i < end; ++i) shares[i] = 1.0 / static_cast<double>(end - first);
  }
  for (const Spread& spread : spreads_) {
    size_t at = At(replicas.offsets[At(spread.expert)]);
    const size_t end = At(replicas.offsets[At(spread.expert) + 1]);
    const double demand = static_cast<double>(spread.tokens) * static_cast<double>(spread.unit);
    for (int32_t i = spread.first_edge; i < spread.end_edge; ++i) {
      const size_t next = EndOfRank(shape, replicas, at, end);
      const double share = static_cast<double>(edges_[At(i)].flow) / demand / static_cast<double>(next - at);
      for (; at < next; ++at) shares[at] = share;
    }
  }
  return shares;
}

}  // namespace evenkeel::algos
