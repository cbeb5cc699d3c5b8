// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/repair/layer_costs.h"

#include <algorithm>

#include "algos/base/check.h"

namespace evenkeel::algos {

LayerCosts::LayerCosts(const Problem& problem, std::span<const uint64_t> tokens) : problem_(problem), tokens_(tokens) {}

void LayerCosts::Reset(const Placement& placement) {
  const Shape& shape = problem_.shape;
  EVENKEEL_CHECK(placement.expert_of_slot.size() == static_cast<size_t>(shape.num_slots()));
  placement_ = placement;
  slots_of_.assign(static_cast<size_t>(shape.num_experts), {});
  part_.assign(slots_of_.size(), 0.0);
  costs_.assign(static_cast<size_t>(shape.num_ranks), 0.0);
  for (int s = 0; s < shape.num_slots(); ++s) {
    if (const ExpertId expert = this->expert(SlotIdx(s)); expert.valid()) slots_of_[expert.idx()].push_back(SlotIdx(s));
  }
  for (size_t e = 0; e < part_.size(); ++e) {
    const size_t count = std::max<size_t>(slots_of_[e].size(), 1);
    part_[e] = static_cast<double>(tokens_[e]) / static_cast<double>(count);
  }
  for (int rank = 0; rank < shape.num_ranks; ++rank) RefreshRank(RankId(rank));
  scale_ = std::max(*std::max_element(costs_.begin(), costs_.end()), 1e-9);
}

void LayerCosts::Set(SlotChange change) {
  const ExpertId old = expert(change.slot);
  if (old == change.expert) return;
  placement_.expert_of_slot[change.slot.idx()] = change.expert;
  if (old.valid()) {
    std::vector<SlotIdx>& slots = slots_of_[old.idx()];
    slots.erase(std::find(slots.begin(), slots.end(), change.slot));
    RefreshRanksOf(old);
  }
  if (change.expert.valid()) {
    slots_of_[change.expert.idx()].push_back(change.slot);
    RefreshRanksOf(change.expert);
  }
  RefreshRank(problem_.shape.RankOf(change.slot));
}

LayerCosts::Outcome LayerCosts::After(std::span<const SlotChange> changes) {
  undone_.clear();
  for (const SlotChange& change : changes) {
    undone_.push_back({change.slot, expert(change.slot)});
    Set(change);
  }
  const Outcome outcome = Now();
  for (size_t i = undone_.size(); i-- > 0;) Set(undone_[i]);
  return outcome;
}

LayerCosts::Outcome LayerCosts::Now() const {
  Outcome outcome;
  for (double cost : costs_) {
    outcome.max = std::max(outcome.max, cost);
    double power = cost / scale_;
    for (int doubling = 0; doubling < 4; ++doubling) power *= power;
    outcome.potential += power;
  }
  return outcome;
}

bool LayerCosts::Holds(RankId rank, ExpertId expert) const {
  return std::ranges::any_of(slots_of(expert), [&](SlotIdx slot) { return problem_.shape.RankOf(slot) == rank; });
}

void LayerCosts::RefreshRanksOf(ExpertId expert) {
  const std::vector<SlotIdx>& slots = slots_of_[expert.idx()];
  const size_t count = std::max<size_t>(slots.size(), 1);
  part_[expert.idx()] = static_cast<double>(tokens_[expert.idx()]) / static_cast<double>(count);
  for (SlotIdx slot : slots) RefreshRank(problem_.shape.RankOf(slot));
}

// From the slots themselves, so that nothing adds up over many changes.
void LayerCosts::RefreshRank(RankId rank) {
  const size_t first = problem_.shape.SlotAt(rank, 0).idx();
  const auto experts =
      std::span(placement_.expert_of_slot).subspan(first, static_cast<size_t>(problem_.shape.slots_per_rank));
  double tokens = 0;
  for (ExpertId expert : experts) tokens += expert.valid() ? part_[expert.idx()] : 0.0;
  double cost = problem_.cost.per_token * tokens;
  if (problem_.cost.per_expert > 0) {
    int in_use = 0;
    for (auto at = experts.begin(); at != experts.end(); ++at) {
      const bool counts = at->valid() && tokens_[at->idx()] > 0 && std::find(experts.begin(), at, *at) == at;
      in_use += counts ? 1 : 0;
    }
    cost += problem_.cost.per_expert * in_use;
  }
  costs_[rank.idx()] = problem_.capacities.empty() ? cost : cost / problem_.capacities[rank.idx()];
}

}  // namespace evenkeel::algos
