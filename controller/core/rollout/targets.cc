// SPDX-License-Identifier: Apache-2.0
#include "controller/core/rollout/targets.h"

#include <algorithm>
#include <span>
#include <vector>

#include "absl/strings/str_cat.h"

namespace evenkeel::controller {

namespace {

std::span<ExpertId> OnRank(algos::Placement& target, const algos::Shape& shape, int rank) {
  return std::span(target.expert_of_slot)
      .subspan(shape.SlotAt(RankId(rank), 0).idx(), static_cast<size_t>(shape.slots_per_rank));
}

std::vector<int> CountReplicas(const algos::Placement& target, int num_experts) {
  std::vector<int> replicas(static_cast<size_t>(num_experts), 0);
  for (ExpertId expert : target.expert_of_slot) {
    if (expert.valid()) ++replicas[expert.idx()];
  }
  return replicas;
}

// The slot among `slots` whose expert has most replicas, two at least; null if there is none.
ExpertId* MostReplicated(std::span<ExpertId> slots, const std::vector<int>& replicas) {
  ExpertId* best = nullptr;
  for (ExpertId& expert : slots) {
    if (!expert.valid() || replicas[expert.idx()] < 2) continue;
    if (best == nullptr || replicas[expert.idx()] > replicas[best->idx()] ||
        (replicas[expert.idx()] == replicas[best->idx()] && expert < *best)) {
      best = &expert;
    }
  }
  return best;
}

}  // namespace

algos::Placement WithoutCondemned(algos::Placement target, LayerId layer, const SlotTable& slots) {
  if (slots.NumCondemned(layer) == 0) return target;
  const algos::Shape& shape = slots.shape();
  std::vector<int> replicas = CountReplicas(target, shape.num_experts);
  for (int r = 0; r < shape.num_ranks; ++r) {
    const auto on_rank = OnRank(target, shape, r);
    long usable = 0;
    for (int s = 0; s < shape.slots_per_rank; ++s) {
      usable += slots.at(layer, shape.SlotAt(RankId(r), s)).use != SlotUse::kCondemned;
    }
    while (std::ranges::count_if(on_rank, &ExpertId::valid) > usable) {
      ExpertId* given_up = MostReplicated(on_rank, replicas);
      if (given_up == nullptr) {
        ExpertId* elsewhere = MostReplicated(target.expert_of_slot, replicas);
        if (elsewhere == nullptr) return target;
        given_up = &*std::ranges::find_if(on_rank, &ExpertId::valid);
        --replicas[elsewhere->idx()];
        *elsewhere = *given_up;
        *given_up = kNoExpert;
        continue;
      }
      --replicas[given_up->idx()];
      *given_up = kNoExpert;
    }
  }
  return target;
}

algos::Placement WithoutDead(algos::Placement target, const algos::Placement& current, LayerId layer,
                             const SlotTable& slots) {
  for (ExpertId& expert : target.expert_of_slot) {
    if (!expert.valid() || slots.NumLive(layer, expert) > 0) continue;
    if (std::ranges::count(current.expert_of_slot, expert) == 0) expert = kNoExpert;
  }
  return target;
}

absl::Status CheckConflicts(const algos::Placement& target, LayerId layer, const SlotTable& slots) {
  const algos::Shape& shape = slots.shape();
  for (int s = 0; s < shape.num_slots(); ++s) {
    const ExpertId expert = target.expert_of_slot[static_cast<size_t>(s)];
    const FingerprintConflict* conflict = expert.valid() ? slots.FindConflict(layer, expert) : nullptr;
    if (conflict == nullptr) continue;
    const RankId rank = shape.RankOf(SlotIdx(s));
    bool held = false;
    for (int local = 0; local < shape.slots_per_rank; ++local) {
      const Slot& slot = slots.at(layer, shape.SlotAt(rank, local));
      held |= slot.holds_content() && slot.expert == expert;
    }
    if (!held) {
      return absl::FailedPreconditionError(absl::StrCat("move expert ", expert.value(), " of layer ", layer.value(),
                                                        " to rank ", rank.value(), ": its replicas ",
                                                        Describe(*conflict)));
    }
  }
  return absl::OkStatus();
}

}  // namespace evenkeel::controller
