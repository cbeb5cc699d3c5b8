// SPDX-License-Identifier: Apache-2.0
#include "algos/shares.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "algos/base/check.h"

namespace evenkeel::algos {

namespace {

constexpr double kSpeedOfFastest = 65536;
constexpr double kReplicaCostMax = 1 << 20;  // over that of all tokens

size_t At(int32_t index) { return static_cast<size_t>(index); }

// The end of the run of replicas that lie on the same rank as the one at `first`.
size_t EndOfRank(const Shape& shape, const Replicas& replicas, size_t first, size_t end) {
  const RankId rank = shape.RankOf(replicas.slots[first]);
  size_t at = first + 1;
  while (at < end && shape.RankOf(replicas.slots[at]) == rank) ++at;
  return at;
}

}  // namespace

SharesResult SharesSolver::Solve(const Shape& shape, const Replicas& replicas, std::span<const uint64_t> tokens,
                                 std::span<const double> previous, const RankRules& rules) {
  EVENKEEL_CHECK(tokens.size() + 1 == replicas.offsets.size());
  EVENKEEL_CHECK(previous.empty() || previous.size() == replicas.slots.size());
  EVENKEEL_CHECK(rules.capacities.empty() || rules.capacities.size() == At(shape.num_ranks));
  ReadProblem(shape, replicas, tokens, previous, rules);
  SharesResult result;
  if (std::ranges::any_of(is_used_, [](uint8_t used) { return used != 0; })) {
    result.certificate = CertificateOf(SettleLoads(), shape, replicas);
    result.max_rank_load = Proven(result.certificate, tokens, rules);
  }
  result.shares = SharesOf(shape, replicas);
  return result;
}

void SharesSolver::ReadProblem(const Shape& shape, const Replicas& replicas, std::span<const uint64_t> tokens,
                               std::span<const double> previous, const RankRules& rules) {
  const size_t num_ranks = At(shape.num_ranks);
  ReadSpeeds(num_ranks, rules);
  uses_.assign(num_ranks, 0);
  if (rules.cost.per_expert > 0) CountUses(shape, replicas, tokens);
  Scale(tokens, rules);
  base_.assign(num_ranks, 0);
  is_used_.assign(num_ranks, 0);
  flow_.Clear();
  preferred_.clear();
  for (size_t e = 0; e < tokens.size(); ++e) {
    const size_t first = At(replicas.offsets[e]), end = At(replicas.offsets[e + 1]);
    if (first == end) tokens_[e] = 0;
    if (tokens_[e] == 0) continue;
    if (end - first == 1 || EndOfRank(shape, replicas, first, end) == end) {
      const size_t rank = shape.RankOf(replicas.slots[first]).idx();
      base_[rank] += tokens_[e] + replica_cost_;
      is_used_[rank] = 1;
    } else {
      AddSpread(shape, replicas, static_cast<int32_t>(e), previous);
    }
  }
  flow_.Index(shape.num_ranks);
  units_.assign(flow_.spreads().size(), 1);
}

void SharesSolver::ReadSpeeds(size_t num_ranks, const RankRules& rules) {
  speeds_.assign(num_ranks, 1);
  if (rules.capacities.empty()) return;
  const double fastest = std::ranges::max(rules.capacities);
  int32_t divisor = 0;
  for (size_t r = 0; r < num_ranks; ++r) {
    speeds_[r] = std::max(1, static_cast<int32_t>(std::lround(rules.capacities[r] / fastest * kSpeedOfFastest)));
    divisor = std::gcd(divisor, speeds_[r]);
  }
  for (int32_t& speed : speeds_) speed /= divisor;
}

void SharesSolver::CountUses(const Shape& shape, const Replicas& replicas, std::span<const uint64_t> tokens) {
  for (size_t e = 0; e < tokens.size(); ++e) {
    if (tokens[e] == 0) continue;
    const size_t end = At(replicas.offsets[e + 1]);
    for (size_t at = At(replicas.offsets[e]); at < end; at = EndOfRank(shape, replicas, at, end)) {
      ++uses_[shape.RankOf(replicas.slots[at]).idx()];
    }
  }
}

// Whole numbers must fit, and be fine enough for shares of a few tokens.
void SharesSolver::Scale(std::span<const uint64_t> tokens, const RankRules& rules) {
  unsigned __int128 total = 0;
  for (uint64_t count : tokens) total += count;
  double each = 0;
  if (rules.cost.per_expert > 0) {
    each = kReplicaCostMax * static_cast<double>(total);
    if (rules.cost.per_token > 0) each = std::min(each, rules.cost.per_expert / rules.cost.per_token);
    const double num_uses = std::accumulate(uses_.begin(), uses_.end(), 0.0);
    total += static_cast<unsigned __int128>(std::ceil(each * num_uses));
  }
  const uint64_t speed = std::accumulate(speeds_.begin(), speeds_.end(), uint64_t{0});
  const uint64_t most = (uint64_t{1} << 62) / speed, fine = ((uint64_t{1} << 52) - 1) / speed;
  int halvings = 0, doublings = 0;
  while ((total >> halvings) > most) ++halvings;
  while (total > 0 && halvings == 0 && (total << doublings) <= fine) ++doublings;
  replica_cost_ = static_cast<int64_t>(std::ldexp(each, doublings - halvings));
  tokens_.resize(tokens.size());
  for (size_t e = 0; e < tokens.size(); ++e) {
    tokens_[e] = static_cast<int64_t>(tokens[e] >> halvings << doublings);
    // What is used stays so.
    if (replica_cost_ > 0 && tokens[e] > 0) tokens_[e] = std::max<int64_t>(tokens_[e], 1);
  }
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
  flow_.AddSpread(expert, tokens_[At(expert)]);
  for (size_t at = first; at < end;) {
    const RankId rank = shape.RankOf(replicas.slots[at]);
    double preferred = 0;
    for (const size_t next = EndOfRank(shape, replicas, at, end); at < next; ++at) {
      preferred += pull * even;
      if (sum > 0) preferred += (1.0 - pull) * previous[at] / sum;
    }
    flow_.AddEdge(rank.value());
    preferred_.push_back(preferred);
    base_[rank.idx()] += replica_cost_;
    is_used_[rank.idx()] = 1;
  }
}

SharesSolver::Group SharesSolver::SettleLoads() {
  Group fullest;
  Level settled{-1, 1};  // below it nothing more is done; known once the maximum is
  pending_.assign(1, flow_.Begin(is_used_));
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
    const Group stuck = flow_.SplitOffStuck(group);
    if (!is_low) pending_.push_back(group);
    pending_.push_back(stuck);
  }
  return fullest;
}

SharesSolver::Level SharesSolver::MeanOf(const Group& group) const {
  Level level{0, 0};
  for (int32_t rank : flow_.ranks_in(group)) {
    level.tokens += base_[At(rank)];
    level.unit += speeds_[At(rank)];
  }
  for (int32_t spread : flow_.spreads_in(group)) level.tokens += flow_.spreads()[At(spread)].tokens;
  return level;
}

bool SharesSolver::FillUpTo(Level level, const Group& group) {
  for (int32_t spread : flow_.spreads_in(group)) StartFromPreferred(spread, group, level.unit);
  for (int32_t rank : flow_.ranks_in(group)) {
    ClipToRoom(rank, group, level.tokens * speeds_[At(rank)] - base_[At(rank)] * level.unit);
  }
  return flow_.RouteExcess(group);
}

void SharesSolver::StartFromPreferred(int32_t s, const Group& group, int64_t unit) {
  ShareFlow::Spread& spread = flow_.spreads()[At(s)];
  const std::span<ShareFlow::Edge> edges = flow_.edges();
  units_[At(s)] = unit;
  double sum = 0;
  int num_open = 0;
  for (int32_t i = spread.first_edge; i < spread.end_edge; ++i) {
    if (!flow_.IsOpen(edges[At(i)], group)) continue;
    sum += preferred_[At(i)];
    ++num_open;
  }
  EVENKEEL_CHECK(num_open > 0);
  const double demand = static_cast<double>(spread.tokens * unit);
  int64_t left = spread.tokens * unit;
  for (int32_t i = spread.first_edge; i < spread.end_edge; ++i) {
    ShareFlow::Edge& edge = edges[At(i)];
    edge.flow = 0;
    if (!flow_.IsOpen(edge, group)) continue;
    const double part = sum > 0 ? preferred_[At(i)] / sum : 1.0 / num_open;
    edge.flow = std::min(left, static_cast<int64_t>(demand * part));
    left -= edge.flow;
  }
  spread.excess = left;
}

// Takes back from the rank's edges, in proportion, what is more than it may get. The rank is stuck where its base load
// alone is more.
void SharesSolver::ClipToRoom(int32_t rank, const Group& group, int64_t room) {
  const std::span<ShareFlow::Edge> edges = flow_.edges();
  const std::span<ShareFlow::Spread> spreads = flow_.spreads();
  // A rank's edges belong to spreads of its group or to spreads that flow elsewhere.
  const auto is_open = [&](const ShareFlow::Edge& edge) { return flow_.group_of_spread(edge.spread) == group.id; };
  int64_t inflow = 0;
  for (int32_t i : flow_.edges_to(rank)) {
    if (is_open(edges[At(i)])) inflow += edges[At(i)].flow;
  }
  flow_.SetStuck(rank, room < 0);
  room = std::max<int64_t>(room, 0);
  const double part = inflow > room ? static_cast<double>(room) / static_cast<double>(inflow) : 1.0;
  for (int32_t i : flow_.edges_to(rank)) {
    ShareFlow::Edge& edge = edges[At(i)];
    if (!is_open(edge)) continue;
    const int64_t wanted = part < 1.0 ? static_cast<int64_t>(static_cast<double>(edge.flow) * part) : edge.flow;
    const int64_t kept = std::min(wanted, room);
    spreads[At(edge.spread)].excess += edge.flow - kept;
    edge.flow = kept;
    room -= kept;
  }
  flow_.room(rank) = room;
}

SharesCertificate SharesSolver::CertificateOf(const Group& group, const Shape& shape, const Replicas& replicas) const {
  SharesCertificate certificate;
  for (int32_t rank : flow_.ranks_in(group)) certificate.ranks.push_back(RankId(rank));
  std::sort(certificate.ranks.begin(), certificate.ranks.end());
  const std::span<const ShareFlow::Spread> spreads = flow_.spreads();
  const int32_t id = flow_.group_of_rank(certificate.ranks.front().value());
  size_t spread = 0;
  for (size_t e = 0; e < tokens_.size(); ++e) {
    if (tokens_[e] == 0) continue;
    const bool is_spread = spread < spreads.size() && spreads[spread].expert == static_cast<int32_t>(e);
    const RankId first = shape.RankOf(replicas.slots[At(replicas.offsets[e])]);
    const int32_t its =
        is_spread ? flow_.group_of_spread(static_cast<int32_t>(spread++)) : flow_.group_of_rank(first.value());
    if (its == id) certificate.experts.push_back(ExpertId(static_cast<int32_t>(e)));
  }
  return certificate;
}

double SharesSolver::Proven(const SharesCertificate& certificate, std::span<const uint64_t> tokens,
                            const RankRules& rules) const {
  double count = 0, num_uses = 0, capacity = 0;
  for (ExpertId expert : certificate.experts) count += static_cast<double>(tokens[expert.idx()]);
  for (RankId rank : certificate.ranks) {
    num_uses += uses_[rank.idx()];
    capacity += rules.capacity(rank.idx());
  }
  return (rules.cost.per_token * count + rules.cost.per_expert * num_uses) / capacity;
}

Shares SharesSolver::SharesOf(const Shape& shape, const Replicas& replicas) const {
  Shares shares(replicas.slots.size());
  for (size_t e = 0; e < tokens_.size(); ++e) {
    const size_t first = At(replicas.offsets[e]), end = At(replicas.offsets[e + 1]);
    for (size_t i = first; i < end; ++i) shares[i] = 1.0 / static_cast<double>(end - first);
  }
  for (size_t s = 0; s < flow_.spreads().size(); ++s) {
    const ShareFlow::Spread& spread = flow_.spreads()[s];
    size_t at = At(replicas.offsets[At(spread.expert)]);
    const size_t end = At(replicas.offsets[At(spread.expert) + 1]);
    const double demand = static_cast<double>(spread.tokens) * static_cast<double>(units_[s]);
    for (const ShareFlow::Edge& edge : flow_.edges_of(spread)) {
      const size_t next = EndOfRank(shape, replicas, at, end);
      const double share = static_cast<double>(edge.flow) / demand / static_cast<double>(next - at);
      for (; at < next; ++at) shares[at] = share;
    }
  }
  return shares;
}

}  // namespace evenkeel::algos
