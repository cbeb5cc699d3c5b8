// SPDX-License-Identifier: Apache-2.0
//
// GroupReport: what people and services are told of a group.
//
// Threads:   none; functions that only read.
#pragma once

#include <span>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "controller/core/event.h"
#include "controller/core/group_state.h"
#include "controller/core/status.h"

namespace evenkeel::controller {

// A call that an engine did not make within this long of registering is named.
inline constexpr absl::Duration kMissingCallAfter = absl::Seconds(5);

GroupStatus ReportGroup(const GroupState& group, absl::Time now, GroupDetail detail = GroupDetail::kAll);
GroupStats ReportStats(const GroupState& group, const StatsQuery& query, absl::Time now);
// Empty `layers`: all. kNotFound names an unknown layer.
absl::StatusOr<GroupMaps> ReportMaps(const GroupState& group, std::span<const LayerId> layers);
RedundancyReport ReportRedundancy(const GroupState& group);

}  // namespace evenkeel::controller
