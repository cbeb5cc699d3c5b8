// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/holding.h"

#include "absl/strings/str_cat.h"

#include "controller/core/planning/freeze.h"

namespace evenkeel::controller {

std::string UtcText(absl::Time time) { return absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", time, absl::UTCTimeZone()); }

std::string WhyHeld(const GroupState& group, absl::Time now) {
  if (const absl::Time until = FrozenUntil(group.settings.freezes, now); until > now) {
    return absl::StrCat("frozen until ", UtcText(until));
  }
  if (group.guard.resting(now)) {
    return absl::StrCat("the guard rests until ", UtcText(group.guard.resting_until()), ": ", group.guard_verdict);
  }
  return group.guard.reason().empty() ? "" : absl::StrCat("guard: ", group.guard.reason());
}

}  // namespace evenkeel::controller
