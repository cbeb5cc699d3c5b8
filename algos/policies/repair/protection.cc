// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/repair/protection.h"

#include <algorithm>

#include "algos/survivability.h"

namespace evenkeel::algos {

Protection::Protection(const Problem& problem)
    : shape_(problem.shape), survive_(problem.survive), host_of_rank_(HostOfRank(problem)) {
  std::vector<int32_t> living;
  for (int32_t rank = 0; rank < shape_.num_ranks; ++rank) {
    is_live_.push_back(problem.IsLive(RankId(rank)));
    if (is_live_.back()) living.push_back(rank);
  }
  living_ = SpreadOf(living);
  // Beyond the living there is nothing to reach.
  num_levels_ = std::max(std::min(survive_.ranks, living_.ranks - 1), std::min(survive_.hosts, living_.hosts - 1));
}

Protection::Spread Protection::SpreadOf(std::span<const int32_t> ranks) const {
  Spread spread;
  for (size_t i = 0; i < ranks.size(); ++i) {
    const auto before = ranks.first(i);
    if (std::ranges::find(before, ranks[i]) != before.end()) continue;
    ++spread.ranks;
    const auto shares_host = [&](int32_t rank) { return ShareHost(rank, ranks[i]); };
    if (std::ranges::none_of(before, shares_host)) ++spread.hosts;
  }
  return spread;
}

Protection::Spread Protection::Needed(int level) const {
  return {.ranks = std::min(std::min(level, survive_.ranks) + 1, living_.ranks),
          .hosts = std::min(std::min(level, survive_.hosts) + 1, living_.hosts)};
}

int Protection::LevelOf(std::span<const int32_t> ranks) const {
  if (ranks.empty()) return -1;
  const Spread spread = SpreadOf(ranks);
  int level = 0;
  while (level < num_levels_ && spread.ranks >= Needed(level + 1).ranks && spread.hosts >= Needed(level + 1).hosts) {
    ++level;
  }
  return level;
}

bool Protection::NeedsOtherHost(std::span<const int32_t> ranks, int level) const {
  return SpreadOf(ranks).hosts < Needed(level).hosts;
}

std::vector<int> Protection::LevelsOf(const Placement& placement) const {
  std::vector<std::vector<int32_t>> ranks_of(static_cast<size_t>(shape_.num_experts));
  for (size_t s = 0; s < placement.expert_of_slot.size(); ++s) {
    const ExpertId expert = placement.expert_of_slot[s];
    const RankId rank = shape_.RankOf(SlotIdx(static_cast<int32_t>(s)));
    if (expert.valid() && is_live_[rank.idx()]) ranks_of[expert.idx()].push_back(rank.value());
  }
  std::vector<int> levels;
  for (const std::vector<int32_t>& ranks : ranks_of) levels.push_back(LevelOf(ranks));
  return levels;
}

std::vector<ExpertId> ExpertsAtRisk(const Problem& problem, const Placement& placement) {
  if (!problem.survive.any()) return SurvivabilityOf(placement, problem.shape, HostOfRank(problem)).ranks.at_risk;
  const Protection protection(problem);
  const int asked = std::max(problem.survive.ranks, problem.survive.hosts);
  const std::vector<int> levels = protection.LevelsOf(placement);
  std::vector<ExpertId> at_risk;
  for (size_t e = 0; e < levels.size(); ++e) {
    const bool is_short = levels[e] < protection.num_levels() || protection.num_levels() < asked;
    if (is_short) at_risk.push_back(ExpertId(static_cast<int32_t>(e)));
  }
  return at_risk;
}

}  // namespace evenkeel::algos
