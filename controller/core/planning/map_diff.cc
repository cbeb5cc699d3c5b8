// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/map_diff.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "controller/core/planning/compute_plan.h"
#include "controller/core/planning/layer_choice.h"
#include "controller/core/planning/load_book.h"
#include "controller/core/planning/plan_scope.h"
#include "controller/core/planning/pricing.h"

namespace evenkeel::controller {

namespace {

constexpr char kStatic[] = "static";

// Slots whose rank does not hold, by `current`, the expert that `target` puts there: as many as are moved.
std::vector<SlotReceives> ReceivedBy(const algos::Shape& shape, const algos::Placement& current,
                                     const algos::Placement& target) {
  std::vector<SlotReceives> received;
  for (int r = 0; r < shape.num_ranks; ++r) {
    const size_t first = shape.SlotAt(RankId(r), 0).idx();
    const auto on_rank = std::span(current.expert_of_slot).subspan(first, static_cast<size_t>(shape.slots_per_rank));
    std::vector<ExpertId> held(on_rank.begin(), on_rank.end());
    for (int s = 0; s < shape.slots_per_rank; ++s) {
      const SlotIdx slot = shape.SlotAt(RankId(r), s);
      const ExpertId wanted = target.expert_of_slot[slot.idx()];
      if (!wanted.valid()) continue;
      if (const auto found = std::ranges::find(held, wanted); found != held.end()) {
        held.erase(found);
      } else {
        received.push_back({RankId(r), wanted});
      }
    }
  }
  return received;
}

}  // namespace

absl::StatusOr<NamedPlacements> NamePlacements(const GroupInfo& info, const std::vector<LayerId>& layers,
                                               std::vector<algos::Placement> placements) {
  if (layers.empty()) return absl::InvalidArgumentError("layers: none is named");
  NamedPlacements named;
  named.layers = layers;
  named.placements.assign(static_cast<size_t>(info.num_layers), algos::DefaultPlacement(info.shape));
  for (size_t i = 0; i < layers.size(); ++i) {
    if (!layers[i].valid() || layers[i].value() >= info.num_layers) {
      return absl::InvalidArgumentError(absl::StrCat("layer ", layers[i].value(), " of group ", info.name,
                                                     ": its layers are 0 to ", info.num_layers - 1));
    }
    if (absl::Status fits = algos::Validate(placements[i], info.shape); !fits.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("layer ", layers[i].value(), ": ", std::string(fits.message())));
    }
    named.placements[layers[i].idx()] = std::move(placements[i]);
  }
  std::ranges::sort(named.layers);
  const auto twice = std::ranges::adjacent_find(named.layers);
  if (twice == named.layers.end()) return named;
  return absl::InvalidArgumentError(absl::StrCat("layer ", twice->value(), " is named twice"));
}

absl::StatusOr<NamedPlacements> PlacementsOf(const GroupState& group, const RollbackTarget& target) {
  EVENKEEL_ASSIGN_OR_RETURN(PlacementHistory::Layers before, target.epoch.has_value() ? group.history.At(*target.epoch)
                                                             : !target.operation_id.empty()
                                                                 ? group.history.Before(target.operation_id)
                                                                 : group.history.BeforeLast());
  std::vector<LayerId> layers;
  std::vector<algos::Placement> placements;
  for (auto& [layer, placement] : before) {
    const algos::Placement now = group.slots.LiveAndComing(layer);
    if (HoldingsOf(placement, group.info.shape) == HoldingsOf(now, group.info.shape)) continue;
    layers.push_back(layer);
    placements.push_back(std::move(placement));
  }
  if (layers.empty()) return absl::FailedPreconditionError("every layer holds what it held then");
  return NamePlacements(group.info, layers, std::move(placements));
}

absl::StatusOr<MapDiff> DiffOf(const GroupState& group, const NamedPlacements& wanted) {
  PlanScope scope = AskedScope(group, kStatic, {}, wanted.layers);
  ComputePlan compute;
  compute.policy = kStatic;
  compute.problem = std::make_shared<const algos::Problem>(std::move(scope.problem));
  compute.config.placements = wanted.placements;
  const algos::Problem& problem = *compute.problem;
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<algos::LayerPlan> plans, RunPlan(compute));
  const std::vector<algos::Placement> targets = TargetsOf(problem, plans, group.slots);
  FastLoop fast_loop(group.info.shape,
                     {.cost = group.settings.planning.cost, .capacities = group.settings.planning.capacities});
  fast_loop.SetAbsent(group.members.AbsentRanks());
  const std::vector<PricedLayer> priced = PriceOf(problem, targets, group.info, group.settings, group.slots, fast_loop,
                                                  {.force = true, .span = scope.span});
  MapDiff diff;
  diff.group = group.info.name;
  if (group.publisher.published()) diff.epoch = group.publisher.epoch();
  std::vector<double> before, after;
  for (size_t i = 0; i < priced.size(); ++i) {
    const LayerDecision& decision = priced[i].decision;
    LayerDiff layer{.layer = decision.layer,
                    .bytes = priced[i].bytes,
                    .imbalance_before = decision.imbalance_before,
                    .imbalance_after = decision.imbalance_after};
    layer.received = ReceivedBy(problem.shape, problem.current[decision.layer.idx()], targets[i]);
    if (decision.why == DecisionReason::kConflict) layer.conflict = decision.reason;
    diff.num_moves += static_cast<int>(layer.received.size());
    diff.bytes += layer.bytes;
    before.push_back(layer.imbalance_before);
    after.push_back(layer.imbalance_after);
    diff.layers.push_back(std::move(layer));
  }
  diff.imbalance_before = MeanOfKnown(before);
  diff.imbalance_after = MeanOfKnown(after);
  return diff;
}

}  // namespace evenkeel::controller
