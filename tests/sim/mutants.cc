// SPDX-License-Identifier: Apache-2.0
//
// What the mutants' agents change in the messages they pass on.
#include <variant>

#include "agent/core/map_update.h"
#include "tests/sim/options.h"
#include "tests/sim/sim_agent.h"

namespace evenkeel::sim {

namespace {

constexpr double kMixChance = 0.2;

// The update with other shares for one expert, under a digest that fits.
void MixMaps(const agent::Maps& held, MapsUpdate& update) {
  if (update.layers.empty() || (update.base_epoch != held.epoch && update.layers.size() != held.layers.size())) return;
  for (auto& [layer, map] : update.layers) {
    for (size_t i = 0; i < map.bounds.size(); ++i) {
      if (map.bounds[i] == UINT32_MAX || map.bounds[i] < 2 || map.bounds[i + 1] - map.bounds[i] < 2) continue;
      ++map.bounds[i];
      std::vector<algos::LayerMap> layers = held.layers;
      for (const auto& [changed, new_map] : update.layers) layers[changed.idx()] = new_map;
      update.maps_digest = agent::DigestOf(layers);
      return;
    }
  }
}

}  // namespace

void SimAgent::MutateUp(AgentMessage& message) {
  auto* const attach = std::get_if<Attach>(&message);
  switch (world_->options.mutant) {
    case Mutant::kTermReused:
      if (attach == nullptr) return;
      attach->term_obeyed = 0;
      if (attach->epoch.term > 0) --attach->epoch.term;
      if (attach->quiesced_epoch.term > 0) --attach->quiesced_epoch.term;
      return;
    case Mutant::kStaleInventory:
      if (attach == nullptr) return;
      if (!first_inventory_.has_value()) first_inventory_ = attach->slots;
      attach->slots = *first_inventory_;
      return;
    case Mutant::kUndoKeepsContent:
      if (auto* failed = std::get_if<MoveFailed>(&message)) failed->content_kept = true;
      return;
    case Mutant::kOtherWeightsAccepted:
      if (attach != nullptr) attach->group.weights_version = world_->InfoOf(group_).weights_version;
      return;
    default:
      return;
  }
}

void SimAgent::MutateDown(ControllerMessage& message) {
  auto* const update = std::get_if<MapsUpdate>(&message);
  if (world_->options.mutant != Mutant::kMapsMixed || update == nullptr || !strand_.running()) return;
  if (world_->rng.Chance(kMixChance)) MixMaps(*strand_.machine()->newest_maps(), *update);
}

}  // namespace evenkeel::sim
