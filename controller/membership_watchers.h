// SPDX-License-Identifier: Apache-2.0
//
// MembershipWatchers: the calls of WatchMembership. Each is told of its groups at once, and then of every change,
// looked for every kLookInterval.
//
// Threads:   the strand alone.
// Owns:      its share of the streams.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/container/btree_map.h"
#include "absl/time/time.h"

#include "controller/core/coordinator.h"

namespace evenkeel::v1 {
class GroupMembership;
}  // namespace evenkeel::v1

namespace evenkeel::controller {

class MembershipWatchers {
 public:
  struct Watcher {
    std::string group;  // empty: all
    std::function<void(const v1::GroupMembership& membership)> push;
  };

  static constexpr absl::Duration kLookInterval = absl::Milliseconds(50);

  // Sends the first at once. `id` is new.
  void Add(uint64_t id, Watcher watcher, const Coordinator& coordinator, absl::Time now);
  void Remove(uint64_t id);

  absl::Time NextWakeup() const { return entries_.empty() ? absl::InfiniteFuture() : due_; }
  void Wake(const Coordinator& coordinator, absl::Time now);

 private:
  struct Entry {
    Watcher watcher;
    absl::btree_map<std::string, MembershipStatus> sent;  // by group
  };

  static void Look(Entry& entry, const std::string& group, const MembershipStatus& membership);

  absl::btree_map<uint64_t, Entry> entries_;
  absl::Time due_ = absl::InfinitePast();
};

}  // namespace evenkeel::controller
