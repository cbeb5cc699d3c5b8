// SPDX-License-Identifier: Apache-2.0
#include "controller/core/rollout/publish_times.h"

#include <algorithm>

namespace evenkeel::controller {

void NotePublish(GroupState& group, absl::Time now) {
  group.last_publish = now;
  group.publish_times[group.publisher.epoch()] = now;
  Epoch oldest = group.publisher.epoch();
  for (const MemberRecord& member : group.members.members()) {
    if (member.counts()) oldest = std::min(oldest, member.quiesced_epoch);
  }
  group.publish_times.erase(group.publish_times.begin(), group.publish_times.upper_bound(oldest));
  if (group.publish_times.size() > GroupState::kPublishTimesKept) {
    group.publish_times.erase(group.publish_times.begin());
  }
}

absl::Duration LagOf(const GroupState& group, Epoch quiesced, absl::Time now) {
  const auto missed = group.publish_times.upper_bound(quiesced);
  return missed == group.publish_times.end() ? absl::ZeroDuration() : now - missed->second;
}

}  // namespace evenkeel::controller
