// SPDX-License-Identifier: Apache-2.0
//
// What the mutants' agents change in the messages they pass on.
#include <variant>

#include "agent/core/map_update.h"
#include "tests/sim/options.h"
#include "tests/sim/region_model.h"
#include "tests/sim/sim_agent.h"

namespace evenkeel::sim {

namespace {

constexpr double kMixChance = 0.2;
constexpr uint64_t kFirstVersion = 1;
constexpr uint64_t kVersionsMax = 100;  // of a run

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
    case Mutant::kKeptContentDenied:
      // Told to be free then, and in every inventory until something is written there.
      if (auto* failed = std::get_if<MoveFailed>(&message); failed != nullptr && failed->content_kept) {
        failed->content_kept = false;
        denied_.insert({failed->layer, failed->slot});
      } else if (attach != nullptr) {
        for (const auto& [layer, slot] : denied_) {
          SlotRecord& record = attach->slots[region_->At(layer, slot)];
          record = {.state = SlotState::kFree, .expert = kNoExpert, .generation = record.generation, .fingerprint = 0};
        }
      } else if (auto* finished = std::get_if<MoveFinished>(&message)) {
        denied_.erase({finished->layer, finished->slot});
      }
      return;
    case Mutant::kOtherVersionUnmapped:
    case Mutant::kVersionsIgnored:
    case Mutant::kDisagreementIgnored:
      if (attach != nullptr) MutateSlots(*attach);
      if (attach != nullptr && world_->options.mutant == Mutant::kVersionsIgnored) {
        attach->group.weights_version = kFirstVersion;
      }
      return;
    case Mutant::kOtherWeightsAccepted:
      if (attach != nullptr) attach->group.weights_version = world_->InfoOf(group_).weights_version;
      return;
    default:
      return;
  }
}

void SimAgent::MutateSlots(Attach& attach) const {
  for (size_t i = 0; i < attach.slots.size(); ++i) {
    SlotRecord& record = attach.slots[i];
    if (record.state != SlotState::kVerified) continue;
    const LayerId layer(static_cast<int>(i) / world_->options.slots_per_rank);
    const uint64_t version = attach.group.weights_version;
    switch (world_->options.mutant) {
      case Mutant::kOtherVersionUnmapped:
        if (version != kFirstVersion)
          record = {.state = SlotState::kFree, .expert = kNoExpert, .generation = record.generation};
        break;
      case Mutant::kDisagreementIgnored:
        record.fingerprint = GoodContent(version, layer, record.expert);
        break;
      default:
        record.fingerprint = MutatedFingerprint(record.fingerprint, layer, record.expert);
    }
  }
}

uint64_t SimAgent::MutatedFingerprint(uint64_t fingerprint, LayerId layer, ExpertId expert) const {
  if (world_->options.mutant == Mutant::kFingerprintIgnored) {
    return GoodContent(region_->info().weights_version, layer, expert);
  }
  if (world_->options.mutant != Mutant::kVersionsIgnored) return fingerprint;
  for (uint64_t version = kFirstVersion; version <= kVersionsMax; ++version) {
    if (fingerprint == GoodContent(version, layer, expert)) return GoodContent(kFirstVersion, layer, expert);
  }
  return fingerprint;
}

void SimAgent::MutateDown(ControllerMessage& message) {
  auto* const update = std::get_if<MapsUpdate>(&message);
  if (world_->options.mutant != Mutant::kMapsMixed || update == nullptr || !strand_.running()) return;
  if (world_->rng.Chance(kMixChance)) MixMaps(*strand_.machine()->newest_maps(), *update);
}

void SimAgent::MutateAgain(ControllerMessage& message) const {
  auto* const order = std::get_if<MoveOrder>(&message);
  if (world_->options.mutant != Mutant::kGenerationsIgnored || order == nullptr) return;
  order->generation = region_->slots[region_->At(order->layer, order->slot)].generation + 1;
}

}  // namespace evenkeel::sim
