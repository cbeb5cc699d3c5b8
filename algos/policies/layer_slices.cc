// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/layer_slices.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "algos/base/check.h"
#include "algos/base/status_macros.h"
#include "algos/placement.h"
#include "algos/policies/registry.h"

namespace evenkeel::algos {

namespace {

Problem SliceOf(const Problem& problem, const std::vector<LayerId>& layers) {
  Problem slice{.shape = problem.shape,
                .num_layers = static_cast<int>(layers.size()),
                .num_nodes = problem.num_nodes,
                .num_expert_groups = problem.num_expert_groups,
                .dead_ranks = problem.dead_ranks,
                .capacities = problem.capacities,
                .cost = problem.cost,
                .survive = problem.survive,
                .hosts = problem.hosts};
  for (const Load& whole : problem.episodes) {
    Load& load = slice.episodes.emplace_back();
    load.num_layers = slice.num_layers;
    load.num_experts = whole.num_experts;
    load.tokens.reserve(layers.size() * static_cast<size_t>(whole.num_experts));
    for (LayerId layer : layers) {
      load.tokens.insert(load.tokens.end(), whole.layer(layer).begin(), whole.layer(layer).end());
    }
  }
  if (!problem.current.empty()) {
    for (LayerId layer : layers) slice.current.push_back(problem.current[layer.idx()]);
  }
  if (!problem.moves_max.empty()) {
    for (LayerId layer : layers) slice.moves_max.push_back(problem.moves_max[layer.idx()]);
  }
  for (Pin pin : problem.pins) {
    const auto found = std::ranges::find(layers, pin.layer);
    if (found == layers.end()) continue;
    pin.layer = LayerId(static_cast<int32_t>(found - layers.begin()));
    slice.pins.push_back(pin);
  }
  return slice;
}

}  // namespace

std::vector<LayerSlice> SliceLayers(const Problem& problem, size_t num_slices) {
  const std::vector<LayerId> planned = PlannedLayers(problem);
  const size_t count = std::min(num_slices, planned.size());
  std::vector<LayerSlice> slices;
  for (size_t i = 0; i < count; ++i) {
    const auto begin = planned.begin() + static_cast<std::ptrdiff_t>(i * planned.size() / count);
    const auto end = planned.begin() + static_cast<std::ptrdiff_t>((i + 1) * planned.size() / count);
    std::vector<LayerId> layers(begin, end);
    Problem slice = SliceOf(problem, layers);
    slices.push_back({std::move(layers), std::move(slice)});
  }
  return slices;
}

std::vector<LayerPlan> MergeSlices(const Problem& problem, std::span<const LayerSlice> slices,
                                   std::vector<std::vector<LayerPlan>> plans) {
  EVENKEEL_CHECK(plans.size() == slices.size());
  std::vector<Placement> current = problem.current;
  current.resize(static_cast<size_t>(problem.num_layers));
  std::vector<LayerPlan> merged = WithEvenShares(std::move(current));
  for (size_t i = 0; i < slices.size(); ++i) {
    EVENKEEL_CHECK(plans[i].size() == slices[i].layers.size());
    for (size_t k = 0; k < plans[i].size(); ++k) merged[slices[i].layers[k].idx()] = std::move(plans[i][k]);
  }
  return merged;
}

absl::StatusOr<std::vector<LayerPlan>> PlanInSlices(std::string_view name, const Problem& problem,
                                                    const PolicyConfig& config, size_t num_slices,
                                                    const RunAll& run_all) {
  EVENKEEL_ASSIGN_OR_RETURN(const NamedPolicy policy, FindPolicy(name));
  const bool may_cut = policy.plans_layers_apart != nullptr && policy.plans_layers_apart(config);
  if (!may_cut || num_slices < 2 || !Validate(problem).ok() || PlannedLayers(problem).size() < 2) {
    return policy.plan(problem, config);
  }
  const std::vector<LayerSlice> slices = SliceLayers(problem, num_slices);
  std::vector<std::optional<absl::StatusOr<std::vector<LayerPlan>>>> results(slices.size());
  run_all(slices.size(), [&](size_t i) { results[i] = policy.plan(slices[i].problem, config); });
  std::vector<std::vector<LayerPlan>> plans;
  for (auto& result : results) {
    // The whole names the layer as the caller does.
    if (!result->ok()) return policy.plan(problem, config);
    plans.push_back(**std::move(result));
  }
  return MergeSlices(problem, slices, std::move(plans));
}

}  // namespace evenkeel::algos
