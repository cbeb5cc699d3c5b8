// SPDX-License-Identifier: Apache-2.0
//
// MapDiff: what putting a group on other placements would move, and what it would do to its balance; and which
// placements a rollback would put it on. Nothing is changed.
//
// Threads:   none; functions that only read.
// Errors:    kInvalidArgument naming what does not fit the group; kNotFound what history does not hold.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "algos/base/ids.h"
#include "algos/placement.h"
#include "algos/protocol/identity.h"
#include "controller/core/group_state.h"
#include "controller/core/status.h"

namespace evenkeel::controller {

// Where to go back to: before an operation, to an epoch, or, with neither, before the newest operation.
struct RollbackTarget {
  std::string operation_id = {};
  std::optional<Epoch> epoch = {};
};

// The placements of named layers, for a rearrangement by policy `static`.
struct NamedPlacements {
  std::vector<LayerId> layers;               // ascending, each once, not empty
  std::vector<algos::Placement> placements;  // [num_layers] those of other layers mean nothing
};

// Of `layers` and as many `placements`, in any order.
absl::StatusOr<NamedPlacements> NamePlacements(const GroupInfo& info, const std::vector<LayerId>& layers,
                                               std::vector<algos::Placement> placements);

// Layers that hold what they held then are left out; kFailedPrecondition: none is left.
absl::StatusOr<NamedPlacements> PlacementsOf(const GroupState& group, const RollbackTarget& target);

absl::StatusOr<MapDiff> DiffOf(const GroupState& group, const NamedPlacements& wanted);

}  // namespace evenkeel::controller
