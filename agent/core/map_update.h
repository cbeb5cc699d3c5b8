// SPDX-License-Identifier: Apache-2.0
//
// ApplyUpdate: the maps that a MapsUpdate makes of those held, or why it does not fit them.
//
// Errors:    kFailedPrecondition: based on another epoch or digest, or not newer; kInvalidArgument: maps that no
//            group of this shape can have.
#pragma once

#include <memory>

#include "absl/status/statusor.h"

#include "agent/core/event.h"
#include "algos/protocol/messages.h"

namespace evenkeel::agent {

absl::StatusOr<std::shared_ptr<const Maps>> ApplyUpdate(const Maps& held, const MapsUpdate& update,
                                                        const GroupInfo& group);

// The digest of all layers, as updates and acknowledgements name it.
uint64_t DigestOf(const std::vector<algos::LayerMap>& layers);

// What a fresh region has: the default placement, shared evenly, at epoch {0, 0}.
std::shared_ptr<const Maps> DefaultMaps(const GroupInfo& group);

}  // namespace evenkeel::agent
