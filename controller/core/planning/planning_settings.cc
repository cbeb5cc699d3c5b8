// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/planning_settings.h"

#include "absl/strings/str_cat.h"

namespace evenkeel::controller {

Pace PaceOf(std::string_view policy) {
  if (policy == "flex") return {.placement_interval = absl::Seconds(10), .layer_moves_per_100_windows = 10};
  return {.placement_interval = absl::Seconds(60), .layer_moves_per_100_windows = 0};
}

absl::Status CheckFits(const PlanningSettings& settings, const GroupInfo& group) {
  const algos::Shape& shape = group.shape;
  if (!settings.capacities.empty() && settings.capacities.size() != static_cast<size_t>(shape.num_ranks)) {
    return absl::InvalidArgumentError(absl::StrCat("group ", group.name, " has ", shape.num_ranks,
                                                   " ranks, but its configuration lists ", settings.capacities.size(),
                                                   " capacities"));
  }
  if (shape.num_experts % settings.num_expert_groups != 0) {
    return absl::InvalidArgumentError(absl::StrCat("group ", group.name, " has ", shape.num_experts, " experts, which ",
                                                   settings.num_expert_groups,
                                                   " expert groups, as configured, do not divide"));
  }
  for (const algos::Pin& pin : settings.pins) {
    if (pin.layer.value() < group.num_layers && pin.expert.value() < shape.num_experts &&
        pin.rank.value() < shape.num_ranks) {
      continue;
    }
    return absl::InvalidArgumentError(absl::StrCat("group ", group.name, " has ", group.num_layers, " layers, ",
                                                   shape.num_experts, " experts and ", shape.num_ranks,
                                                   " ranks, but its configuration pins expert ", pin.expert.value(),
                                                   " of layer ", pin.layer.value(), " to rank ", pin.rank.value()));
  }
  return absl::OkStatus();
}

}  // namespace evenkeel::controller
