// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/group_load.h"

#include <optional>
#include <vector>

#include "algos/layer_map.h"
#include "algos/problem.h"

namespace evenkeel::controller {

void WatchGap(GroupState& group, Effects& effects) {
  // While slots go in and out, a window has no one map to be judged by.
  if (!group.publisher.published() || group.rollouts.running()) return;
  const algos::Load load = group.loads.Sum(1);
  const std::vector<double> realised = group.loads.BalanceOf(1).realised;
  std::vector<GapWatch::Sample> samples;
  for (int l = 0; l < group.info.num_layers; ++l) {
    const auto tokens = load.layer(LayerId(l));
    if (!group.fast_loop.HasEnoughToJudge(tokens)) continue;
    samples.push_back(
        {LayerId(l), realised[LayerId(l).idx()], group.fast_loop.Predict(group.publisher.map(LayerId(l)), tokens)});
  }
  switch (group.gap.Take(samples)) {
    case GapWatch::Change::kBegan:
      return group.Alert(
          group.gap.text(), [](const GroupState& g) { return !g.gap.text().empty(); }, effects);
    case GapWatch::Change::kEnded:
      effects.push_back(Note{group.info.name, "ranks are loaded as the maps in force say again"});
      return;
    case GapWatch::Change::kNone:
      return;
  }
}

bool HasEnoughToPlan(const GroupState& group) {
  const algos::Load load = group.loads.SumOfHistory(group.settings.num_windows_for_placement);
  for (int l = 0; l < group.info.num_layers; ++l) {
    if (group.fast_loop.HasEnough(load.layer(LayerId(l)))) return true;
  }
  return false;
}

Rollouts::SlotLoads SlotLoadsNow(const GroupState& group) {
  return [&group, load = std::optional<algos::Load>()](LayerId layer) mutable {
    if (!load.has_value()) load = group.loads.Sum(group.settings.num_windows_for_shares);
    const auto tokens = load->layer(layer);
    std::vector<uint64_t> of_slot(static_cast<size_t>(group.info.shape.num_slots()), 0);
    if (!group.publisher.published()) return of_slot;
    const algos::LayerMap& map = group.publisher.map(layer);
    for (int e = 0; e < group.info.shape.num_experts; ++e) {
      const auto slots = map.slots_of(ExpertId(e));
      for (size_t i = 0; i < slots.size(); ++i) {
        const uint64_t units = map.ShareUnits(ExpertId(e), static_cast<int>(i));
        of_slot[slots[i].idx()] =
            static_cast<uint64_t>((static_cast<unsigned __int128>(tokens[static_cast<size_t>(e)]) * units) >> 32);
      }
    }
    return of_slot;
  };
}

}  // namespace evenkeel::controller
