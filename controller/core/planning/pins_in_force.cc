// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/pins_in_force.h"

#include <algorithm>
#include <string>

namespace evenkeel::controller {

namespace {

bool Holds(const algos::Placement& placement, const algos::Shape& shape, RankId rank, ExpertId expert) {
  for (int i = 0; i < shape.slots_per_rank; ++i) {
    if (placement.expert_of_slot[shape.SlotAt(rank, i).idx()] == expert) return true;
  }
  return false;
}

}  // namespace

std::vector<algos::Pin> PinsInForce(const GroupState& group) {
  std::vector<algos::Pin> pins = group.settings.planning.pins;
  for (const StandingPins& standing : group.pins) {
    for (const algos::Pin& pin : standing.pins) {
      if (std::ranges::find(pins, pin) == pins.end()) pins.push_back(pin);
    }
  }
  return pins;
}

const std::string* FrozenBy(const GroupState& group, LayerId layer) {
  for (const StandingPins& standing : group.pins) {
    if (std::ranges::binary_search(standing.frozen, layer)) return &standing.operation_id;
  }
  return nullptr;
}

int NumPinsUnmet(const algos::Problem& problem, LayerId layer, const algos::Placement& placement) {
  return static_cast<int>(std::ranges::count_if(problem.pins, [&](const algos::Pin& pin) {
    return pin.layer == layer && !Holds(placement, problem.shape, pin.rank, pin.expert);
  }));
}

}  // namespace evenkeel::controller
