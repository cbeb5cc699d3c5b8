// SPDX-License-Identifier: Apache-2.0
#include "algos/rank_cost.h"

#include <algorithm>

#include "algos/base/check.h"
#include "algos/base/ids.h"

namespace evenkeel::algos {

namespace {

// part_of(expert, i, n): the share of the expert's i-th of n replicas.
std::vector<double> Costs(const RankRules& rules, const Shape& shape, std::span<const uint64_t> tokens,
                          const auto& slots_of, const auto& part_of) {
  std::vector<double> costs(static_cast<size_t>(shape.num_ranks), 0.0);
  for (int e = 0; e < shape.num_experts; ++e) {
    const ExpertId expert(e);
    const double count = static_cast<double>(tokens[expert.idx()]);
    if (count <= 0) continue;
    const std::span<const SlotIdx> slots = slots_of(expert);
    RankId last;  // slots ascend, so replicas on one rank follow each other and use the expert once
    for (size_t i = 0; i < slots.size(); ++i) {
      const RankId rank = shape.RankOf(slots[i]);
      costs[rank.idx()] += rules.cost.per_token * count * part_of(expert, i, slots.size());
      if (rank != last) costs[rank.idx()] += rules.cost.per_expert;
      last = rank;
    }
  }
  for (size_t r = 0; r < costs.size(); ++r) costs[r] /= rules.capacity(r);
  return costs;
}

double Level(const RankRules& rules, std::span<const double> rank_costs, std::span<const uint64_t> tokens,
             const auto& is_held) {
  double cost = 0, capacity = 0;
  for (size_t e = 0; e < tokens.size(); ++e) {
    if (tokens[e] == 0 || !is_held(ExpertId(static_cast<int32_t>(e)))) continue;
    cost += rules.cost.per_token * static_cast<double>(tokens[e]) + rules.cost.per_expert;
  }
  for (size_t r = 0; r < rank_costs.size(); ++r) {
    if (rules.absent.empty() || !rules.absent[r]) capacity += rules.capacity(r);
  }
  return cost > 0 ? *std::ranges::max_element(rank_costs) * capacity / cost : 1.0;
}

}  // namespace

RankRules RulesOf(const Problem& problem) {
  return {.cost = problem.cost, .capacities = problem.capacities, .absent = problem.dead_ranks};
}

bool CountsTokensAlone(const RankRules& rules) {
  return rules.cost.per_expert == 0 &&
         std::ranges::all_of(rules.capacities, [&](double c) { return c == rules.capacities.front(); });
}

std::vector<double> RankCosts(const RankRules& rules, const Shape& shape, const Replicas& replicas,
                              std::span<const double> shares, std::span<const uint64_t> tokens) {
  EVENKEEL_CHECK(shares.empty() || shares.size() == replicas.slots.size());
  return Costs(
      rules, shape, tokens, [&](ExpertId expert) { return replicas.slots_of(expert); },
      [&](ExpertId expert, size_t i, size_t num) {
        if (shares.empty()) return 1.0 / static_cast<double>(num);
        return shares[static_cast<size_t>(replicas.offsets[expert.idx()]) + i];
      });
}

std::vector<double> RankCosts(const RankRules& rules, const Shape& shape, const LayerMap& map,
                              std::span<const uint64_t> tokens) {
  return Costs(
      rules, shape, tokens, [&](ExpertId expert) { return map.slots_of(expert); },
      [&](ExpertId expert, size_t i, size_t) {
        return static_cast<double>(map.ShareUnits(expert, static_cast<int>(i))) / static_cast<double>(kShareUnits);
      });
}

double LevelOf(const RankRules& rules, const Shape& shape, const Replicas& replicas, std::span<const double> shares,
               std::span<const uint64_t> tokens) {
  const auto is_held = [&](ExpertId expert) { return !replicas.slots_of(expert).empty(); };
  return Level(rules, RankCosts(rules, shape, replicas, shares, tokens), tokens, is_held);
}

double LevelOf(const RankRules& rules, const Shape& shape, const LayerMap& map, std::span<const uint64_t> tokens) {
  const auto is_held = [&](ExpertId expert) { return !map.slots_of(expert).empty(); };
  return Level(rules, RankCosts(rules, shape, map, tokens), tokens, is_held);
}

}  // namespace evenkeel::algos
