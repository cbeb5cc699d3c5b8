// SPDX-License-Identifier: Apache-2.0
//
// StatsWatchers: the calls of WatchStats, and when each is due.
//
// A watcher with an interval gets an update each time it has passed. One without gets one for each new window,
// looked for every kLookInterval, and at least every kQuietMax.
//
// Threads:   the strand alone.
// Owns:      its share of the streams.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

#include "controller/core/coordinator.h"

namespace evenkeel::v1 {
class StatsUpdate;
}  // namespace evenkeel::v1

namespace evenkeel::controller {

// One group's status and the windows of `query`.
absl::Status FillUpdate(const Coordinator& coordinator, const std::string& group, const StatsQuery& query,
                        absl::Time now, v1::StatsUpdate* update);

class StatsWatchers {
 public:
  using Push = std::function<void(const std::string& group, const v1::StatsUpdate& update)>;
  struct Watcher {
    std::string group;        // empty: all
    absl::Duration interval;  // zero: each new window
    int num_windows;          // > 0
    bool brief;               // without what is told of each layer
    Push push;
  };

  static constexpr absl::Duration kLookInterval = absl::Milliseconds(100);
  static constexpr absl::Duration kQuietMax = absl::Seconds(2);

  // Sends the first updates at once. `id` is new.
  void Add(uint64_t id, Watcher watcher, const Coordinator& coordinator, absl::Time now);
  void Remove(uint64_t id);

  absl::Time NextWakeup() const;
  void Wake(const Coordinator& coordinator, absl::Time now);

 private:
  struct Sent {
    absl::Time at;
    int64_t begin_unix_us = 0;  // of the newest window in it
  };
  struct Entry {
    Watcher watcher;
    absl::Time due;
    absl::btree_map<std::string, Sent> sent;  // by group
  };

  static void Look(Entry& entry, const Coordinator& coordinator, absl::Time now);

  absl::btree_map<uint64_t, Entry> entries_;
};

}  // namespace evenkeel::controller
