// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/static.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/ids.h"
#include "algos/base/status_macros.h"
#include "algos/policies/each_layer.h"

namespace evenkeel::algos {

namespace {

absl::Status ValidateNamed(const Problem& problem, const std::vector<Placement>& placements) {
  if (placements.empty()) return absl::InvalidArgumentError("static: no placements are named");
  if (placements.size() != static_cast<size_t>(problem.num_layers)) {
    return absl::InvalidArgumentError(
        absl::StrCat("static: placements of ", placements.size(), " layers; the group has ", problem.num_layers));
  }
  const Shape& shape = problem.shape;
  for (size_t layer = 0; layer < placements.size(); ++layer) {
    const size_t num_slots = placements[layer].expert_of_slot.size();
    if (num_slots != static_cast<size_t>(shape.num_slots())) {
      return absl::InvalidArgumentError(absl::StrCat("static: layer ", layer, " has ", num_slots,
                                                     " slots; the group has ", shape.num_ranks, " ranks x ",
                                                     shape.slots_per_rank, " = ", shape.num_slots()));
    }
    const absl::Status fits = Validate(placements[layer], shape);
    if (!fits.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("static: layer ", layer, ": ", std::string(fits.message())));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Placement>> PlanStatic(const Problem& problem, const std::vector<Placement>& placements) {
  EVENKEEL_RETURN_IF_ERROR(Validate(problem));
  EVENKEEL_RETURN_IF_ERROR(ValidateNamed(problem, placements));
  return PlanEachLayer(problem, [&](LayerId layer) {
    Placement placement = placements[layer.idx()];
    for (size_t slot = 0; slot < placement.expert_of_slot.size(); ++slot) {
      if (!problem.IsLive(problem.shape.RankOf(SlotIdx(static_cast<int32_t>(slot))))) {
        placement.expert_of_slot[slot] = kNoExpert;
      }
    }
    return placement;
  });
}

absl::StatusOr<std::vector<LayerPlan>> StaticPolicy(const Problem& problem, const PolicyConfig& config) {
  EVENKEEL_RETURN_IF_ERROR(ReadOptions("static", {}, config).status());
  const bool stays = config.placements.empty() && !problem.current.empty();
  EVENKEEL_ASSIGN_OR_RETURN(std::vector<Placement> placements,
                            PlanStatic(problem, stays ? problem.current : config.placements));
  return WithEvenShares(std::move(placements));
}

}  // namespace evenkeel::algos
