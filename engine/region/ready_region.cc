// SPDX-License-Identifier: Apache-2.0
#include "engine/region/ready_region.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "engine/region/to_status.h"

namespace evenkeel::engine {

absl::StatusOr<std::unique_ptr<RegionView>> OpenReadyRegion(const std::string& path, SharedMemory::Access access) {
  auto view = RegionView::Open(path.c_str(), access);
  if (!view.ok()) return ToStatus(view.error);
  if (!view.value.memory().IsLockedElsewhere(kEngineLockByte)) {
    return absl::FailedPreconditionError(absl::StrCat("open ", path, ": its engine has ended"));
  }
  if (!view.value.was_ready()) {
    return absl::UnavailableError(absl::StrCat("open ", path, ": its engine has not called evenkeel_ready yet"));
  }
  return std::make_unique<RegionView>(std::move(view.value));
}

GroupInfo GroupOf(const RegionView& view) {
  const RegionHeader& header = view.header();
  const RegionSizes& sizes = view.sizes();
  GroupInfo group;
  group.name = header.group;
  group.model = header.model;
  group.weights_version = header.weights_version.Load();
  group.manifest_digest = header.manifest_digest;
  group.shape = {
      .num_experts = sizes.num_experts, .num_ranks = sizes.num_ranks, .slots_per_rank = sizes.slots_per_rank};
  group.world = sizes.world;
  group.num_layers = sizes.num_layers;
  group.num_nodes = sizes.num_nodes;
  group.expert_bytes = header.expert_bytes;
  group.count_place = static_cast<CountPlace>(sizes.count_place);
  group.routing = static_cast<Routing>(sizes.routing);
  return group;
}

SlotRecord RecordOf(const SlotContent& content) {
  return {.state = static_cast<SlotState>(content.state),
          .expert = ExpertId(content.expert),
          .generation = content.generation,
          .fingerprint = content.fingerprint};
}

}  // namespace evenkeel::engine
