// SPDX-License-Identifier: Apache-2.0
//
// EachLayer: what the published policies have in common: layers are planned one after another, all ranks take part.
//
// Errors:    kInvalidArgument, naming the policy, for dead ranks.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "algos/base/ids.h"
#include "algos/placement.h"
#include "algos/problem.h"

namespace evenkeel::algos {

inline absl::Status RefuseDeadRanks(std::string_view policy, const Problem& problem) {
  const int num_dead = problem.shape.num_ranks - problem.num_live_ranks();
  if (num_dead == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(std::string(policy), ": cannot leave out ", num_dead, " dead ranks"));
}

// What the layer holds now, or null.
inline const Placement* CurrentOf(const Problem& problem, LayerId layer) {
  return problem.current.empty() ? nullptr : &problem.current[layer.idx()];
}

// `plan_layer(layer)` for every layer that is to be planned; the others keep their current placement.
// Requires: Validate(problem) is OK.
template <typename PlanLayer>
std::vector<Placement> PlanEachLayer(const Problem& problem, PlanLayer plan_layer) {
  std::vector<Placement> placements = problem.current;
  placements.resize(static_cast<size_t>(problem.num_layers));
  for (LayerId layer : PlannedLayers(problem)) placements[layer.idx()] = plan_layer(layer);
  return placements;
}

}  // namespace evenkeel::algos
