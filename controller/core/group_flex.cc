// SPDX-License-Identifier: Apache-2.0
#include "controller/core/group_flex.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "algos/flex/flex_policy.h"

namespace evenkeel::controller {

bool FollowedByFlex(const GroupInfo& info, const GroupSettings& settings) {
  return settings.policy == kFlexPolicy && info.routing != Routing::kReplicated && info.shape.num_redundant() > 0 &&
         int64_t{info.num_layers} * info.shape.num_experts <= kCountersMax;
}

std::optional<algos::Flex> FlexFor(const GroupInfo& info, const GroupSettings& settings) {
  if (!FollowedByFlex(info, settings)) return std::nullopt;
  algos::PolicyConfig config;
  config.options = settings.planning.policy_options;
  const absl::StatusOr<algos::FlexOptions> options = algos::FlexOptionsOf(config);
  if (!options.ok()) return std::nullopt;  // plans tell why
  return std::optional<algos::Flex>(std::in_place, info.shape, info.num_layers, *options);
}

algos::Problem ShareRules(const GroupInfo& info, const PlanningSettings& settings, algos::Load window,
                          std::vector<bool> absent) {
  algos::Problem rules;
  rules.shape = info.shape;
  rules.num_layers = info.num_layers;
  rules.num_nodes = info.num_nodes;
  rules.capacities = settings.capacities;
  rules.cost = settings.cost;
  rules.episodes.push_back(std::move(window));
  rules.dead_ranks = std::move(absent);
  return rules;
}

std::vector<uint64_t> ExpectedTokens(const algos::Flex& flex, LayerId layer, std::span<const uint64_t> tokens) {
  double sum = 0;
  for (uint64_t count : tokens) sum += static_cast<double>(count);
  std::vector<uint64_t> expected;
  expected.reserve(tokens.size());
  for (double part : flex.filter().Expected(layer)) expected.push_back(static_cast<uint64_t>(part * sum + 0.5));
  return expected;
}

double LevelOf(const algos::Problem& rules, const algos::LayerMap& map, std::span<const uint64_t> tokens) {
  std::vector<double> costs = algos::RankLoads(map, rules.shape, tokens);
  for (double& cost : costs) cost *= rules.cost.per_token;
  double least = std::accumulate(costs.begin(), costs.end(), 0.0);
  for (int e = 0; e < rules.shape.num_experts; ++e) {
    if (rules.cost.per_expert <= 0 || tokens[static_cast<size_t>(e)] == 0) continue;
    const auto slots = map.slots_of(ExpertId(e));
    for (size_t i = 0; i < slots.size(); ++i) {
      if (map.ShareUnits(ExpertId(e), static_cast<int>(i)) == 0) continue;
      costs[rules.shape.RankOf(slots[i]).idx()] += rules.cost.per_expert;
    }
    least += rules.cost.per_expert;
  }
  double speed = 0;
  for (size_t r = 0; r < costs.size(); ++r) {
    const double capacity = rules.capacities.empty() ? 1.0 : rules.capacities[r];
    costs[r] /= capacity;
    if (rules.IsLive(RankId(static_cast<int32_t>(r)))) speed += capacity;
  }
  return least > 0 ? std::ranges::max(costs) * speed / least : 1.0;
}

}  // namespace evenkeel::controller
