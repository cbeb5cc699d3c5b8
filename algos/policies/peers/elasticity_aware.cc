// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/elasticity_aware.h"

#include <algorithm>
#include <utility>

#include "algos/base/ids.h"
#include "algos/base/status_macros.h"
#include "algos/policies/each_layer.h"
#include "algos/policies/peers/deepseek.h"

namespace evenkeel::algos {

namespace {

// The living ranks as a group of their own, without nodes and groups.
Problem LivingOf(const Problem& problem) {
  return {.shape = {.num_experts = problem.shape.num_experts,
                    .num_ranks = problem.num_live_ranks(),
                    .slots_per_rank = problem.shape.slots_per_rank},
          .num_layers = problem.num_layers,
          .episodes = problem.episodes};
}

// The blocks of the living ranks where those ranks are; blank elsewhere.
Placement PutBack(const Placement& living, const Problem& problem) {
  Placement placement{std::vector<ExpertId>(static_cast<size_t>(problem.shape.num_slots()), kNoExpert)};
  const auto room = static_cast<std::ptrdiff_t>(problem.shape.slots_per_rank);
  auto from = living.expert_of_slot.begin();
  for (int rank = 0; rank < problem.shape.num_ranks; ++rank) {
    if (!problem.IsLive(RankId(rank))) continue;
    std::copy(from, from + room, placement.expert_of_slot.begin() + rank * room);
    from += room;
  }
  return placement;
}

}  // namespace

absl::StatusOr<std::vector<Placement>> PlanElasticityAware(const Problem& problem) {
  EVENKEEL_RETURN_IF_ERROR(Validate(problem));
  if (problem.num_live_ranks() == problem.shape.num_ranks) return PlanDeepseek(problem);
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<Placement> living, PlanDeepseek(LivingOf(problem)));
  return PlanEachLayer(problem, [&](LayerId layer) { return PutBack(living[layer.idx()], problem); });
}

absl::StatusOr<std::vector<LayerPlan>> ElasticityAwarePolicy(const Problem& problem, const PolicyConfig& config) {
  EVENKEEL_RETURN_IF_ERROR(ReadOptions("elasticity_aware", {}, config).status());
  EVENKEEL_ASSIGN_OR_RETURN(std::vector<Placement> placements, PlanElasticityAware(problem));
  return WithEvenShares(std::move(placements));
}

}  // namespace evenkeel::algos
