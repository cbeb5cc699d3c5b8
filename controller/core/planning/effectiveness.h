// SPDX-License-Identifier: Apache-2.0
//
// Effectiveness: whether balancing that is on does anything, and if not, why: so that it never stops silently.
//
// Threads:   none; a function that only reads.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"

#include "controller/core/group_state.h"
#include "controller/core/status.h"

namespace evenkeel::controller {

// Engines that run without any load being counted for so long are not seen.
inline constexpr absl::Duration kNoLoadAfter = absl::Seconds(30);
// Plans of its own that failed in a row, and waves of a layer undone in a row.
inline constexpr int kFailuresInARow = 3;

// In words, for people; none: it works, was switched off, or is paused. `status`: of this group, as reported now but
// for this.
std::vector<std::string> WhyIneffective(const GroupState& group, const GroupStatus& status, absl::Time now);

}  // namespace evenkeel::controller
