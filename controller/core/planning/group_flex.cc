// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/group_flex.h"

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

}  // namespace evenkeel::controller
