// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/fast_loop.h"

#include <algorithm>
#include <utility>

#include "algos/imbalance.h"

namespace evenkeel::controller {

algos::Shares FastLoop::SharesIn(const algos::Placement& live, const algos::LayerMap& previous) const {
  return SharesIn(algos::Invert(live, shape_.num_experts), previous);
}

algos::Shares FastLoop::SharesIn(const algos::Replicas& replicas, const algos::LayerMap& previous) const {
  algos::Shares shares;
  shares.reserve(replicas.slots.size());
  for (int e = 0; e < shape_.num_experts; ++e) {
    const ExpertId expert(e);
    const auto slots = replicas.slots_of(expert);
    const auto before = previous.slots_of(expert);
    const size_t first = shares.size();
    double sum = 0;
    for (SlotIdx slot : slots) {
      const auto found = std::ranges::lower_bound(before, slot);
      double share = 1.0 / static_cast<double>(slots.size());
      if (found != before.end() && *found == slot) {
        share = static_cast<double>(previous.ShareUnits(expert, static_cast<int>(found - before.begin()))) /
                static_cast<double>(algos::kShareUnits);
      }
      shares.push_back(share);
      sum += share;
    }
    // The slots left may all have had none.
    const double even = 1.0 / static_cast<double>(slots.size());
    for (size_t i = first; i < shares.size(); ++i) shares[i] = sum > 0 ? shares[i] / sum : even;
  }
  return shares;
}

bool FastLoop::HasPerRank(std::span<const uint64_t> tokens, uint64_t wanted) const {
  uint64_t sum = 0;
  for (uint64_t count : tokens) sum += count;
  const long num_absent = std::ranges::count(rules_.absent, true);
  return sum >= wanted * static_cast<uint64_t>(shape_.num_ranks - num_absent);
}

double FastLoop::Predict(const algos::LayerMap& map, std::span<const uint64_t> tokens) const {
  return algos::LayerImbalance(algos::Attending(algos::RankLoads(map, shape_, tokens), rules_.absent));
}

double FastLoop::Level(const algos::LayerMap& map, std::span<const uint64_t> tokens) const {
  return algos::LevelOf(rules_, shape_, map, tokens);
}

void FastLoop::Foretell(std::span<const uint64_t> tokens, Choice& choice) const {
  choice.imbalance = Predict(choice.map, tokens);
  choice.level = Level(choice.map, tokens);
}

FastLoop::Choice FastLoop::Choose(const algos::Placement& live, const algos::LayerMap* previous,
                                  std::span<const uint64_t> tokens) {
  const algos::Replicas replicas = algos::Invert(live, shape_.num_experts);
  algos::Shares shares;
  if (previous != nullptr) shares = SharesIn(replicas, *previous);
  const bool enough = HasEnough(tokens);
  if (enough) shares = solver_.Solve(shape_, replicas, tokens, shares, rules_).shares;
  Choice choice;
  choice.map =
      shares.empty() ? algos::EvenMap(live, shape_.num_experts) : algos::SharedMap(live, shape_.num_experts, shares);
  if (enough) Foretell(tokens, choice);
  return choice;
}

FastLoop::Choice FastLoop::Take(const algos::Placement& live, std::span<const double> shares,
                                std::span<const uint64_t> tokens) const {
  Choice choice;
  choice.map = algos::SharedMap(live, shape_.num_experts, shares);
  if (HasEnough(tokens)) Foretell(tokens, choice);
  return choice;
}

}  // namespace evenkeel::controller
