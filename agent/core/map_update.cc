// SPDX-License-Identifier: Apache-2.0
#include "agent/core/map_update.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "algos/layer_map.h"
#include "algos/placement.h"
#include "algos/protocol/identity.h"

namespace evenkeel::agent {

namespace {

absl::Status CheckBase(const Maps& held, const MapsUpdate& update, int num_layers) {
  if (update.epoch <= held.epoch) {
    return absl::FailedPreconditionError(
        absl::StrCat("maps ", update.epoch.ToString(), " are not newer than ", held.epoch.ToString()));
  }
  const bool full = update.base_epoch == update.epoch;
  if (full && update.layers.size() != static_cast<size_t>(num_layers)) {
    return absl::InvalidArgumentError(absl::StrCat("full maps ", update.epoch.ToString(), " list ",
                                                   update.layers.size(), " of ", num_layers, " layers"));
  }
  if (!full && update.base_epoch != held.epoch) {
    return absl::FailedPreconditionError(absl::StrCat("maps ", update.epoch.ToString(), " are based on ",
                                                      update.base_epoch.ToString(), ", held are ",
                                                      held.epoch.ToString()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Maps>> ApplyUpdate(const Maps& held, const MapsUpdate& update,
                                                        const GroupInfo& group) {
  if (absl::Status status = CheckBase(held, update, group.num_layers); !status.ok()) return status;
  auto maps = std::make_shared<Maps>();
  maps->epoch = update.epoch;
  maps->view_number = update.view_number;
  maps->layers = held.layers;
  LayerId previous;
  for (const auto& [layer, map] : update.layers) {
    if (layer <= previous || layer.value() >= group.num_layers) {
      return absl::InvalidArgumentError(
          absl::StrCat("maps ", update.epoch.ToString(), ": layer ", layer.value(), " is unknown or out of order"));
    }
    previous = layer;
    // An expert whose last rank was lost has no replica until it is restored.
    if (absl::Status status = algos::Validate(map, group.shape, {.allow_dead_experts = true}); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("layer ", layer.value(), ": ", status.message()));
    }
    maps->layers[layer.idx()] = map;
  }
  maps->digest = DigestOf(maps->layers);
  if (maps->digest != update.maps_digest) {
    return absl::FailedPreconditionError(
        absl::StrCat("maps ", update.epoch.ToString(), " have another digest than the update says"));
  }
  return std::shared_ptr<const Maps>(std::move(maps));
}

uint64_t DigestOf(const std::vector<algos::LayerMap>& layers) {
  std::vector<uint64_t> digests;
  digests.reserve(layers.size());
  for (const algos::LayerMap& layer : layers) digests.push_back(algos::DigestOf(layer));
  return algos::DigestOf(digests);
}

std::shared_ptr<const Maps> DefaultMaps(const GroupInfo& group) {
  auto maps = std::make_shared<Maps>();
  const algos::LayerMap layer =
      algos::EvenMap(algos::DefaultPlacement(group.shape, group.world), group.shape.num_experts);
  maps->layers.assign(static_cast<size_t>(group.num_layers), layer);
  maps->digest = DigestOf(maps->layers);
  return maps;
}

}  // namespace evenkeel::agent
