// SPDX-License-Identifier: Apache-2.0
#include "algos/shares.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <catch2/catch.hpp>

#include "algos/base/rng.h"
#include "algos/layer_map.h"
#include "algos/placement.h"
#include "algos/rank_cost.h"

namespace evenkeel::algos {
namespace {

Placement Holding(const std::vector<int>& experts) {
  Placement placement;
  for (int expert : experts) placement.expert_of_slot.push_back(ExpertId(expert));
  return placement;
}

// Each expert once, the other slots at random, some blank; on random slots.
Placement RandomPlacement(const Shape& shape, Rng& rng, double blank) {
  Placement placement;
  for (int s = 0; s < shape.num_slots(); ++s) {
    const ExpertId any(static_cast<int32_t>(rng.Below(static_cast<uint64_t>(shape.num_experts))));
    const ExpertId extra = rng.Chance(blank) ? kNoExpert : any;
    placement.expert_of_slot.push_back(s < shape.num_experts ? ExpertId(s) : extra);
  }
  rng.Shuffle(placement.expert_of_slot);
  return placement;
}

std::vector<uint64_t> RandomTokens(int num_experts, Rng& rng) {
  std::vector<uint64_t> tokens;
  for (int e = 0; e < num_experts; ++e) {
    tokens.push_back(rng.Chance(0.15) ? 0 : static_cast<uint64_t>(std::exp(rng.Normal() * 1.5 + 5.0)));
  }
  return tokens;
}

bool Holds(const Shape& shape, const Placement& placement, int rank, size_t expert) {
  for (int s = 0; s < shape.num_slots(); ++s) {
    const ExpertId held = placement.expert_of_slot[static_cast<size_t>(s)];
    if (shape.RankOf(SlotIdx(s)).value() == rank && held.valid() && held.idx() == expert) return true;
  }
  return false;
}

// Experts with tokens on the rank.
int UsesOf(const Shape& shape, const Placement& placement, const std::vector<uint64_t>& tokens, int rank) {
  int uses = 0;
  for (size_t e = 0; e < tokens.size(); ++e) uses += tokens[e] > 0 && Holds(shape, placement, rank, e) ? 1 : 0;
  return uses;
}

// Whether the certificate proves that no shares do better than `max_rank_load`. Knows nothing of the solver.
bool Proves(const SharesCertificate& certificate, double max_rank_load, const Shape& shape, const Placement& placement,
            const std::vector<uint64_t>& tokens, const RankRules& rules = {}) {
  uint64_t sum = 0;
  for (ExpertId expert : certificate.experts) sum += tokens[expert.idx()];
  for (int s = 0; s < shape.num_slots(); ++s) {
    const ExpertId held = placement.expert_of_slot[static_cast<size_t>(s)];
    const bool counted = std::count(certificate.experts.begin(), certificate.experts.end(), held) == 1;
    const RankId rank = shape.RankOf(SlotIdx(s));
    if (counted && std::count(certificate.ranks.begin(), certificate.ranks.end(), rank) != 1) return false;
  }
  if (certificate.ranks.empty()) return max_rank_load == 0 && sum == 0;
  double cost = rules.cost.per_token * static_cast<double>(sum), capacity = 0;
  for (RankId rank : certificate.ranks) {
    cost += rules.cost.per_expert * UsesOf(shape, placement, tokens, rank.value());
    capacity += rules.capacities.empty() ? 1.0 : rules.capacities[rank.idx()];
  }
  const double bound = cost / capacity;
  return std::abs(bound - max_rank_load) <= 1e-12 * bound;
}

std::vector<double> LoadsAfterRounding(const Shape& shape, const Placement& placement, const Shares& shares,
                                       const std::vector<uint64_t>& tokens) {
  const LayerMap map = SharedMap(placement, shape.num_experts, shares);
  return RankLoads(map, shape, tokens);
}

double MaxOf(const std::vector<double>& loads) { return *std::max_element(loads.begin(), loads.end()); }

// Least loads in lexicographic order by looking at every set of ranks: what is confined to a set bears on it.
std::vector<double> NaiveLoads(const Shape& shape, const Placement& placement, const std::vector<uint64_t>& tokens) {
  std::vector<unsigned> ranks_of(tokens.size(), 0);
  for (int s = 0; s < shape.num_slots(); ++s) {
    const ExpertId held = placement.expert_of_slot[static_cast<size_t>(s)];
    if (held.valid()) ranks_of[held.idx()] |= 1u << shape.RankOf(SlotIdx(s)).value();
  }
  std::vector<double> loads(static_cast<size_t>(shape.num_ranks), 0.0);
  const unsigned all = (1u << shape.num_ranks) - 1;
  std::vector<bool> done(tokens.size(), false);
  for (unsigned settled = 0; settled != all;) {
    double best = -1;
    unsigned best_set = 0;
    for (unsigned set = 1; set <= all; ++set) {
      if ((set & settled) != 0) continue;
      double sum = 0;
      for (size_t e = 0; e < tokens.size(); ++e) {
        if (!done[e] && (ranks_of[e] & ~settled & ~set) == 0) sum += static_cast<double>(tokens[e]);
      }
      const double mean = sum / __builtin_popcount(set);
      if (mean > best) {
        best = mean;
        best_set = set;
      }
    }
    for (size_t e = 0; e < tokens.size(); ++e) {
      if ((ranks_of[e] & ~settled & ~best_set) == 0) done[e] = true;
    }
    for (int r = 0; r < shape.num_ranks; ++r) {
      if ((best_set >> r & 1u) != 0) loads[static_cast<size_t>(r)] = best;
    }
    settled |= best_set;
  }
  return loads;
}

// The least possible maximum by looking at every set of ranks.
double NaiveMaximum(const Shape& shape, const Placement& placement, const std::vector<uint64_t>& tokens,
                    const RankRules& rules) {
  double most = 0;
  for (unsigned set = 1; set < 1u << shape.num_ranks; ++set) {
    double cost = 0, capacity = 0;
    for (int r = 0; r < shape.num_ranks; ++r) {
      if ((set >> r & 1u) == 0) continue;
      cost += rules.cost.per_expert * UsesOf(shape, placement, tokens, r);
      capacity += rules.capacities[static_cast<size_t>(r)];
    }
    for (size_t e = 0; e < tokens.size(); ++e) {
      unsigned ranks = 0;
      for (int r = 0; r < shape.num_ranks; ++r) ranks |= Holds(shape, placement, r, e) ? 1u << r : 0u;
      if (ranks != 0 && (ranks & ~set) == 0) cost += rules.cost.per_token * static_cast<double>(tokens[e]);
    }
    most = std::max(most, cost / capacity);
  }
  return most;
}

}  // namespace

TEST_CASE("eight skewed experts on eight ranks of two slots reach perfect balance", "[shares]") {
  const Shape shape{8, 8, 2};
  const std::vector<uint64_t> tokens = {600, 560, 120, 120, 20, 10, 10, 10};
  const Placement placement = Holding({0, 4, 0, 5, 0, 6, 0, 2, 2, 1, 1, 3, 1, 3, 1, 7});

  const SharesResult result = SharesSolver().Solve(shape, Invert(placement, 8), tokens);

  CHECK(result.max_rank_load == 181.25);
  CHECK(Proves(result.certificate, 181.25, shape, placement, tokens));
  for (double load : LoadsAfterRounding(shape, placement, result.shares, tokens)) {
    CHECK(load == Approx(181.25).epsilon(1e-8));
  }
  CHECK(MaxOf(RankLoads(EvenMap(placement, 8), shape, tokens)) > 190);
}

TEST_CASE("the certificate proves the maximum and every rank's load is the least possible", "[shares]") {
  const uint64_t seed = static_cast<uint64_t>(GENERATE(range(0, 400)));
  CAPTURE(seed);
  Rng rng(seed);
  const int num_ranks = static_cast<int>(rng.Between(1, 7)), slots = static_cast<int>(rng.Between(1, 4));
  const Shape shape{static_cast<int>(rng.Between(1, num_ranks * slots)), num_ranks, slots};
  const Placement placement = RandomPlacement(shape, rng, 0.2);
  const std::vector<uint64_t> tokens = RandomTokens(shape.num_experts, rng);
  const Replicas replicas = Invert(placement, shape.num_experts);
  std::vector<double> previous;
  for (size_t i = 0; i < replicas.slots.size() && rng.Chance(0.9); ++i) previous.push_back(rng.Uniform());
  previous.resize(previous.size() == replicas.slots.size() ? previous.size() : 0);
  const double settle = rng.Chance(0.5) ? 0.0 : rng.Uniform();

  SharesSolver solver({.settle = settle});
  solver.Solve(shape, replicas, RandomTokens(shape.num_experts, rng));
  const SharesResult result = solver.Solve(shape, replicas, tokens, previous);

  const double slack = 1e-7 * static_cast<double>(1 + std::accumulate(tokens.begin(), tokens.end(), uint64_t{0}));
  const std::vector<double> loads = LoadsAfterRounding(shape, placement, result.shares, tokens);
  CHECK(MaxOf(loads) <= result.max_rank_load + slack);
  CHECK(Proves(result.certificate, result.max_rank_load, shape, placement, tokens));
  const std::vector<double> least = NaiveLoads(shape, placement, tokens);
  CHECK(MaxOf(least) == Approx(result.max_rank_load));
  for (size_t r = 0; r < loads.size(); ++r) {
    if (least[r] > settle * result.max_rank_load) {
      CHECK(std::abs(loads[r] - least[r]) <= slack);
    } else {
      CHECK(loads[r] <= settle * result.max_rank_load + slack + 1);
    }
  }
}

TEST_CASE("the certificate proves the maximum of what ranks of unequal speed bear, experts in use costing too",
          "[shares]") {
  const uint64_t seed = static_cast<uint64_t>(GENERATE(range(0, 400)));
  CAPTURE(seed);
  Rng rng(seed);
  const int num_ranks = static_cast<int>(rng.Between(1, 6)), slots = static_cast<int>(rng.Between(1, 4));
  const Shape shape{static_cast<int>(rng.Between(1, num_ranks * slots)), num_ranks, slots};
  const Placement placement = RandomPlacement(shape, rng, 0.2);
  const std::vector<uint64_t> tokens = RandomTokens(shape.num_experts, rng);
  const Replicas replicas = Invert(placement, shape.num_experts);
  RankRules rules;
  // Eighths are exact in whole numbers of the fastest, others nearly so.
  const bool exact = rng.Chance(0.7);
  for (int r = 0; r < num_ranks; ++r) {
    rules.capacities.push_back(exact ? static_cast<double>(rng.Between(1, 8)) / 8 : 0.2 + rng.Uniform());
  }
  if (exact) rules.capacities[0] = 1;
  if (rng.Chance(0.7)) rules.cost.per_expert = rng.Uniform() * 400;
  rules.cost.per_token = rng.Chance(0.1) && rules.cost.per_expert > 0 ? 0 : 0.5 + rng.Uniform();

  const SharesResult result = SharesSolver({.settle = rng.Uniform()}).Solve(shape, replicas, tokens, {}, rules);

  const double slack = (exact ? 1e-6 : 1e-3) * (1 + result.max_rank_load);
  CHECK(Proves(result.certificate, result.max_rank_load, shape, placement, tokens, rules));
  CHECK(std::abs(NaiveMaximum(shape, placement, tokens, rules) - result.max_rank_load) <= slack);
  const LayerMap map = SharedMap(placement, shape.num_experts, result.shares);
  CHECK(MaxOf(RankCosts(rules, shape, map, tokens)) <= result.max_rank_load + slack);
}

TEST_CASE("a rank of half the speed that holds more experts in use gets what is left", "[shares]") {
  // Rank 0 holds experts 0 and 1, rank 1 of half the speed experts 1, 2 and 3.
  const Shape shape{4, 2, 3};
  const Placement placement = Holding({0, 1, -1, 1, 2, 3});
  const std::vector<uint64_t> tokens = {100, 400, 20, 0};
  const RankRules rules{.cost = {.per_expert = 10, .per_token = 2}, .capacities = {2, 1}};

  const SharesResult result = SharesSolver().Solve(shape, Invert(placement, 4), tokens, {}, rules);

  // Both together: 2 * 520 tokens and four uses over a capacity of 3; expert 3 is not in use.
  CHECK(result.max_rank_load == Approx(1080.0 / 3));
  CHECK(result.shares[1] == Approx((2 * 360.0 - 20 - 200) / 800));
  CHECK(LevelOf(rules, shape, Invert(placement, 4), result.shares, tokens) == Approx(1080.0 / 1070.0));
}

TEST_CASE("renaming ranks and experts renames the shares and keeps the loads", "[shares]") {
  const uint64_t seed = static_cast<uint64_t>(GENERATE(range(0, 50)));
  CAPTURE(seed);
  Rng rng(seed);
  const Shape shape{20, 8, 4};
  const Placement placement = RandomPlacement(shape, rng, 0.0);
  const std::vector<uint64_t> tokens = RandomTokens(shape.num_experts, rng);
  std::vector<int> rank_name(8), expert_name(20);
  std::iota(rank_name.begin(), rank_name.end(), 0);
  std::iota(expert_name.begin(), expert_name.end(), 0);
  rng.Shuffle(rank_name);
  rng.Shuffle(expert_name);
  Placement renamed = placement;
  std::vector<uint64_t> renamed_tokens(tokens.size());
  for (int s = 0; s < shape.num_slots(); ++s) {
    const RankId rank(rank_name[shape.RankOf(SlotIdx(s)).idx()]);
    renamed.expert_of_slot[shape.SlotAt(rank, shape.LocalSlot(SlotIdx(s))).idx()] =
        ExpertId(expert_name[placement.expert_of_slot[static_cast<size_t>(s)].idx()]);
  }
  for (size_t e = 0; e < tokens.size(); ++e) renamed_tokens[static_cast<size_t>(expert_name[e])] = tokens[e];

  SharesSolver solver({.settle = 0});
  const SharesResult plain = solver.Solve(shape, Invert(placement, 20), tokens);
  const SharesResult other = solver.Solve(shape, Invert(renamed, 20), renamed_tokens);

  CHECK(plain.max_rank_load == other.max_rank_load);
  CHECK(plain.certificate.experts.size() == other.certificate.experts.size());
  const std::vector<double> loads = LoadsAfterRounding(shape, placement, plain.shares, tokens);
  const std::vector<double> others = LoadsAfterRounding(shape, renamed, other.shares, renamed_tokens);
  for (size_t r = 0; r < loads.size(); ++r) {
    CHECK(loads[r] == Approx(others[static_cast<size_t>(rank_name[r])]).margin(1e-3));
  }
}

TEST_CASE("scaled tokens scale the maximum and leave the shares", "[shares]") {
  const uint64_t seed = static_cast<uint64_t>(GENERATE(range(0, 50)));
  CAPTURE(seed);
  Rng rng(seed);
  const Shape shape{20, 8, 4};
  const Replicas replicas = Invert(RandomPlacement(shape, rng, 0.1), 20);
  const std::vector<uint64_t> tokens = RandomTokens(shape.num_experts, rng);
  std::vector<uint64_t> scaled = tokens;
  for (uint64_t& count : scaled) count *= 1024;

  SharesSolver solver;
  const SharesResult plain = solver.Solve(shape, replicas, tokens);
  const SharesResult other = solver.Solve(shape, replicas, scaled);

  CHECK(other.max_rank_load == plain.max_rank_load * 1024);
  CHECK(other.certificate.experts == plain.certificate.experts);
  for (size_t i = 0; i < plain.shares.size(); ++i) {
    CHECK(plain.shares[i] == Approx(other.shares[i]).margin(0.01));
  }
}

TEST_CASE("a rank without slots in use changes nothing", "[shares]") {
  Rng rng(5);
  const Shape shape{20, 8, 4};
  Placement placement = RandomPlacement(shape, rng, 0.1);
  const std::vector<uint64_t> tokens = RandomTokens(shape.num_experts, rng);
  SharesSolver solver;
  const SharesResult plain = solver.Solve(shape, Invert(placement, 20), tokens);

  placement.expert_of_slot.resize(36, kNoExpert);
  const SharesResult wider = solver.Solve({20, 9, 4}, Invert(placement, 20), tokens);

  CHECK(wider.max_rank_load == plain.max_rank_load);
  CHECK(wider.shares == plain.shares);
}

TEST_CASE("shares that balance already are kept, and drift to even where that is as good", "[shares]") {
  // Expert 0 is on both ranks; the others are light, so that any split of 1 (ranks 2, 3) is good enough.
  const Shape shape{3, 4, 2};
  const Placement placement = Holding({0, -1, 0, -1, 1, 2, 1, -1});
  const std::vector<uint64_t> tokens = {1000, 100, 10};
  const std::vector<double> previous = {0.5, 0.5, 0.7, 0.3, 1.0};

  const SharesResult kept = SharesSolver({.pull_to_even = 0}).Solve(shape, Invert(placement, 3), tokens, previous);
  const SharesResult drawn = SharesSolver({.pull_to_even = 0.5}).Solve(shape, Invert(placement, 3), tokens, previous);

  CHECK(kept.max_rank_load == 500);
  for (size_t i = 0; i < previous.size(); ++i) CHECK(kept.shares[i] == Approx(previous[i]).margin(1e-3));
  CHECK(drawn.shares[2] == Approx(0.6).margin(1e-2));
}

TEST_CASE("experts without tokens are split evenly and experts without replicas are left out", "[shares]") {
  const Shape shape{3, 2, 2};
  const Placement placement = Holding({0, 1, 0, -1});
  const std::vector<double> previous = {0.9, 0.1, 1.0};

  const SharesResult result =
      SharesSolver().Solve(shape, Invert(placement, 3), std::vector<uint64_t>{0, 8, 50}, previous);
  const SharesResult nothing = SharesSolver().Solve(shape, Invert(placement, 3), std::vector<uint64_t>{0, 0, 0});

  CHECK(result.shares == Shares{0.5, 0.5, 1.0});
  CHECK(result.max_rank_load == 8);
  CHECK(result.certificate.ranks == std::vector<RankId>{RankId(0)});
  CHECK(nothing.max_rank_load == 0);
  CHECK(nothing.certificate.experts.empty());
}

TEST_CASE("replicas on one rank share its part and huge counts do not overflow", "[shares]") {
  const Shape shape{2, 3, 2};
  const Placement placement = Holding({0, 0, 0, 1, -1, 1});
  const uint64_t huge = UINT64_MAX;

  const SharesResult result = SharesSolver().Solve(shape, Invert(placement, 2), std::vector<uint64_t>{huge, huge});

  CHECK(result.max_rank_load == Approx(static_cast<double>(huge) * 2 / 3));
  CHECK(result.shares[0] == result.shares[1]);
  CHECK(result.shares[0] + result.shares[1] == Approx(2.0 / 3));
}

}  // namespace evenkeel::algos
