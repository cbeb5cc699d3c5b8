// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/constraints.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/status/status.h"

#include "algos/base/status_macros.h"
#include "algos/moves.h"
#include "algos/placement.h"
#include "algos/policies/relabel.h"
#include "algos/policies/repair/layer_costs.h"
#include "algos/policies/repair/move_budget.h"
#include "algos/policies/repair/part_problem.h"
#include "algos/policies/repair/protection.h"
#include "algos/policies/repair/repair.h"
#include "algos/policies/repair/secure.h"

namespace evenkeel::algos {

namespace {

using Plans = std::vector<LayerPlan>;

bool HasDeadRanks(const Problem& problem) { return problem.num_live_ranks() < problem.shape.num_ranks; }

bool HasUnevenCapacities(const Problem& problem) {
  return std::ranges::any_of(problem.capacities, [&](double c) { return c != problem.capacities.front(); });
}

bool IsUnconstrained(const Problem& problem, Abilities abilities) {
  return !HasDeadRanks(problem) && (abilities.groups || !KeepsGroups(problem)) && !HasUnevenCapacities(problem) &&
         problem.pins.empty() && problem.moves_max.empty() && (abilities.survive || !problem.survive.any());
}

// Plans to be written into: what there is in layers that are not planned, blank elsewhere.
Plans BlankPlans(const Problem& problem) {
  std::vector<Placement> placements = problem.current;
  placements.resize(static_cast<size_t>(problem.num_layers));
  for (LayerId layer : PlannedLayers(problem)) {
    placements[layer.idx()].expert_of_slot.assign(static_cast<size_t>(problem.shape.num_slots()), kNoExpert);
  }
  return WithEvenShares(std::move(placements));
}

absl::StatusOr<Plans> PlanNodes(Policy policy, const Problem& problem, const PolicyConfig& config) {
  Plans whole = BlankPlans(problem);
  for (const Part& part : NodesWithGroups(problem)) {
    EVENKEEL_ASSIGN_OR_RETURN(const Plans plans, policy(PartOf(problem, part), config));
    for (LayerId layer : PlannedLayers(problem)) {
      Embed(plans[layer.idx()].placement, problem, part, layer, whole[layer.idx()].placement);
    }
  }
  return whole;
}

// All ranks are alive, or the policy knows of dead ones.
absl::StatusOr<Plans> PlanWithGroups(Policy policy, Abilities abilities, const Problem& problem,
                                     const PolicyConfig& config) {
  if (!abilities.groups && KeepsGroups(problem)) {
    absl::StatusOr<Plans> plans = PlanNodes(policy, problem, config);
    if (!absl::IsInvalidArgument(plans.status())) return plans;
  }
  return policy(problem, config);
}

absl::StatusOr<Plans> PlanLiving(Policy policy, Abilities abilities, const Problem& problem, const Part& part,
                                 const PolicyConfig& config) {
  EVENKEEL_ASSIGN_OR_RETURN(Plans plans, PlanWithGroups(policy, abilities, PartOf(problem, part), config));
  Plans whole = BlankPlans(problem);
  for (LayerId layer : PlannedLayers(problem)) {
    LayerPlan& plan = whole[layer.idx()];
    Embed(plans[layer.idx()].placement, problem, part, layer, plan.placement);
    // Slots keep their order, and with it shares theirs.
    plan.shares = std::move(plans[layer.idx()].shares);
  }
  return whole;
}

absl::StatusOr<Plans> PlanOnLiving(Policy policy, Abilities abilities, const Problem& problem,
                                   const PolicyConfig& config) {
  if (abilities.dead_ranks || !HasDeadRanks(problem)) return PlanWithGroups(policy, abilities, problem, config);
  Part part = LivingRanks(problem);
  absl::StatusOr<Plans> plans = PlanLiving(policy, abilities, problem, part, config);
  if (!absl::IsInvalidArgument(plans.status())) return plans;
  if (part.num_nodes > 1) {
    part.num_nodes = part.num_expert_groups = 1;
    plans = PlanLiving(policy, abilities, problem, part, config);
    if (!absl::IsInvalidArgument(plans.status())) return plans;
  }
  Problem all_live = problem;
  all_live.dead_ranks.clear();
  all_live.pins.clear();
  all_live.moves_max.clear();
  return policy(all_live, config);
}

class LayerConstrainer {
 public:
  LayerConstrainer(const Problem& problem, Abilities abilities)
      : problem_(problem),
        abilities_(abilities),
        load_(TotalLoad(problem)),
        protection_(problem),
        relabeler_(cluster_) {
    cluster_.shape = problem.shape;
    cluster_.nodes.resize(static_cast<size_t>(problem.num_nodes));
    const int ranks_per_node = problem.shape.num_ranks / problem.num_nodes;
    for (int rank = 0; rank < problem.shape.num_ranks; ++rank) {
      if (problem.IsLive(RankId(rank)))
        cluster_.nodes[static_cast<size_t>(rank / ranks_per_node)].push_back(RankId(rank));
    }
  }

  Placement Constrain(LayerId layer, const Placement& planned) {
    LayerCosts costs(problem_, load_.layer(layer));
    Placement live = planned;
    BlankDeadRanks(problem_, live);
    costs.Reset(live);
    if (HasUnevenCapacities(problem_) && !abilities_.capacities) {
      FitToCapacities(problem_, layer, KeepsGroups(problem_), costs);
    }
    RepairLayer(problem_, layer, costs);
    if (!abilities_.survive) SecureLayer(problem_, layer, {}, costs);
    if (!IsOverBudget(layer, costs.placement())) return costs.placement();
    if (!HasUnevenCapacities(problem_)) {
      costs.Reset(Relabelled(costs.placement(), problem_.current[layer.idx()]));
      RepairLayer(problem_, layer, costs);
      SecureLayer(problem_, layer, {.may_take_from_colder = !abilities_.survive}, costs);
      if (!IsOverBudget(layer, costs.placement())) return costs.placement();
    }
    const Placement target = costs.placement();
    Placement start = problem_.current[layer.idx()];
    BlankDeadRanks(problem_, start);
    costs.Reset(start);
    RepairLayer(problem_, layer, costs);
    SecureLayer(problem_, layer, {.may_take_from_colder = false}, costs);
    const std::vector<int> levels = protection_.LevelsOf(costs.placement());
    const auto protects = [&](const Placement& placement) {
      return std::ranges::equal(protection_.LevelsOf(placement), levels, std::greater_equal<>());
    };
    MoveTowards(problem_, problem_.current[layer.idx()], target, problem_.MovesMax(layer), costs, protects);
    return costs.placement();
  }

 private:
  bool IsOverBudget(LayerId layer, const Placement& placement) const {
    return !problem_.moves_max.empty() &&
           CountMoves(problem_.shape, problem_.current[layer.idx()], placement) > problem_.MovesMax(layer);
  }

  Placement Relabelled(const Placement& planned, const Placement& current) {
    contents_.assign(static_cast<size_t>(problem_.shape.num_ranks), {});
    for (int s = 0; s < problem_.shape.num_slots(); ++s) {
      const ExpertId expert = planned.expert_of_slot[static_cast<size_t>(s)];
      if (expert.valid()) contents_[problem_.shape.RankOf(SlotIdx(s)).idx()].push_back(expert);
    }
    return relabeler_.Apply(contents_, &current);
  }

  const Problem& problem_;
  const Abilities abilities_;
  const Load load_;
  const Protection protection_;
  Cluster cluster_;
  Relabeler relabeler_;
  std::vector<std::vector<ExpertId>> contents_;
};

}  // namespace

absl::StatusOr<std::vector<LayerPlan>> PlanWithin(Policy policy, Abilities abilities, const Problem& problem,
                                                  const PolicyConfig& config) {
  EVENKEEL_RETURN_IF_ERROR(Validate(problem));
  if (IsUnconstrained(problem, abilities)) return policy(problem, config);
  EVENKEEL_RETURN_IF_ERROR(ValidateRoomForPins(problem));
  EVENKEEL_ASSIGN_OR_RETURN(Plans plans, PlanOnLiving(policy, abilities, problem, config));
  LayerConstrainer constrainer(problem, abilities);
  for (LayerId layer : PlannedLayers(problem)) {
    LayerPlan& plan = plans[layer.idx()];
    Placement placement = constrainer.Constrain(layer, plan.placement);
    if (placement == plan.placement) continue;
    plan = {.placement = std::move(placement)};
  }
  return plans;
}

}  // namespace evenkeel::algos
