// SPDX-License-Identifier: Apache-2.0
#include "controller/membership_watchers.h"

#include <utility>

#include "controller/convert_membership.h"
#include "proto/evenkeel/v1/control.pb.h"

namespace evenkeel::controller {

void MembershipWatchers::Add(uint64_t id, Watcher watcher, const Coordinator& coordinator, absl::Time now) {
  if (entries_.empty()) due_ = now + kLookInterval;
  Entry& entry = entries_[id];
  entry.watcher = std::move(watcher);
  for (const std::string& group : coordinator.ListGroups()) {
    if (const auto membership = coordinator.GetMembership(group, now); membership.ok()) Look(entry, group, *membership);
  }
}

void MembershipWatchers::Remove(uint64_t id) { entries_.erase(id); }

void MembershipWatchers::Wake(const Coordinator& coordinator, absl::Time now) {
  if (now < due_) return;
  due_ = now + kLookInterval;
  for (const std::string& group : coordinator.ListGroups()) {
    const auto membership = coordinator.GetMembership(group, now);  // once for all watchers
    if (!membership.ok()) continue;
    for (auto& [id, entry] : entries_) Look(entry, group, *membership);
  }
}

void MembershipWatchers::Look(Entry& entry, const std::string& group, const MembershipStatus& membership) {
  if (!entry.watcher.group.empty() && entry.watcher.group != group) return;
  const auto sent = entry.sent.find(group);
  if (sent != entry.sent.end() && sent->second == membership) return;
  entry.sent[group] = membership;
  v1::GroupMembership message;
  ToProto(membership, &message);
  entry.watcher.push(message);
}

}  // namespace evenkeel::controller
