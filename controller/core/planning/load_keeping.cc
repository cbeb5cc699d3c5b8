// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/load_keeping.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "controller/core/group_state.h"

namespace evenkeel::controller {

void KeepLoads(GroupState& group, int num_closed, Effects& effects) {
  group.num_windows_unkept += num_closed;
  if (group.term == 0 || group.num_windows_unkept < kWindowsAtOnce) return;
  auto load = std::make_shared<LoadHistory>();
  load->windows = group.loads.ClosedWindows(std::exchange(group.num_windows_unkept, 0));
  if (load->windows.empty()) return;
  load->group = group.info.name;
  load->model = group.info.model;
  load->num_layers = group.info.num_layers;
  load->num_experts = group.info.shape.num_experts;
  load->kept_for = group.settings.window * group.settings.num_windows_for_placement;
  effects.push_back(PersistLoad{std::move(load)});
}

void RestoreLoads(GroupState& group, std::span<const LoadHistory> stored, absl::Time now) {
  const absl::Time oldest = now - group.settings.window * group.settings.num_windows_kept;
  std::vector<KeptWindow> windows;
  for (const LoadHistory& load : stored) {
    if (load.group != group.info.name || load.model != group.info.model) continue;
    if (load.num_layers != group.info.num_layers || load.num_experts != group.info.shape.num_experts) continue;
    for (const KeptWindow& window : load.windows) {
      if (window.span.to > oldest && window.span.to <= now) windows.push_back(window);
    }
  }
  if (group.flex.has_value()) {
    for (const KeptWindow& window : windows) group.flex->Observe(window.tokens);
  }
  group.loads.Restore(std::move(windows));
}

}  // namespace evenkeel::controller
