// SPDX-License-Identifier: Apache-2.0
//
// ReadyRegion: a region whose engine lives and has said ready, and what stands in it as the protocol's values.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "algos/protocol/identity.h"
#include "algos/protocol/messages.h"
#include "engine/region/region_view.h"

namespace evenkeel::engine {

// kFailedPrecondition where the engine has ended, kUnavailable where it is not ready.
absl::StatusOr<std::unique_ptr<RegionView>> OpenReadyRegion(const std::string& path, SharedMemory::Access access);

GroupInfo GroupOf(const RegionView& view);
SlotRecord RecordOf(const SlotContent& content);

}  // namespace evenkeel::engine
