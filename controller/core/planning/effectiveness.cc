// SPDX-License-Identifier: Apache-2.0
#include "controller/core/planning/effectiveness.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace evenkeel::controller {

namespace {

bool EnginesRun(const GroupStatus& status) {
  return std::ranges::any_of(status.members, [](const MemberStatus& member) {
    return member.attached && member.alive && !member.idle && member.num_steps > 0;
  });
}

// Since the last load, or since it could have come.
absl::Duration WithoutLoad(const GroupState& group, const GroupStatus& status, absl::Time now) {
  absl::Time since = group.last_load;
  for (const MemberStatus& member : status.members) {
    if (member.attached) since = std::max(since, member.changed);
  }
  return now - since;
}

}  // namespace

std::vector<std::string> WhyIneffective(const GroupState& group, const GroupStatus& status, absl::Time now) {
  std::vector<std::string> why;
  if (!Acts(group.mode) || !(group.SharesOn() || group.PlacementOn()) || group.Held()) return why;
  if (status.forming) {
    why.push_back("the group is still forming: not every rank has attached");
    return why;
  }
  if (!status.static_reason.empty()) why.push_back(status.static_reason);
  if (!status.imbalance_gap.empty()) why.push_back(status.imbalance_gap);
  for (const MemberStatus& member : status.members) {
    if (member.missing_calls.empty()) continue;
    why.push_back(absl::StrCat("the engine of rank ", member.member.rank.value(), " ",
                               absl::StrJoin(member.missing_calls, ", ")));
  }
  if (const absl::Duration without = WithoutLoad(group, status, now); EnginesRun(status) && without > kNoLoadAfter) {
    why.push_back(absl::StrCat("engines run, but no load was counted for ",
                               absl::FormatDuration(absl::Trunc(without, absl::Seconds(1)))));
  }
  if (group.num_plans_failed >= kFailuresInARow) {
    why.push_back(absl::StrCat("the last ", group.num_plans_failed, " plans of its own failed"));
  }
  for (const WaveBlocked& blocked : status.waves_blocked) {
    if (blocked.num_waves_undone < kFailuresInARow) continue;
    why.push_back(absl::StrCat("layer ", blocked.layer.value(), ": rank ", blocked.rank.value(), " held up ",
                               blocked.num_waves_undone, " waves in a row: ", blocked.reason));
  }
  return why;
}

}  // namespace evenkeel::controller
