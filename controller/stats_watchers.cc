// SPDX-License-Identifier: Apache-2.0
#include "controller/stats_watchers.h"

#include <algorithm>
#include <utility>

#include "algos/base/status_macros.h"
#include "controller/convert_status.h"
#include "proto/evenkeel/v1/control.pb.h"

namespace evenkeel::controller {

absl::Status FillUpdate(const Coordinator& coordinator, const std::string& group, const StatsQuery& query,
                        absl::Time now, v1::StatsUpdate* update) {
  EVENKEEL_ASSIGN_OR_RETURN(const GroupStatus status, coordinator.GetGroup(group, now, GroupDetail::kSummary));
  EVENKEEL_ASSIGN_OR_RETURN(const GroupStats stats, coordinator.GetStats(group, query, now));
  update->set_time_unix_us(absl::ToUnixMicros(now));
  ToProto(status, Detail::kBrief, update->mutable_group());
  ToProto(stats, update->mutable_stats());
  return absl::OkStatus();
}

void StatsWatchers::Add(uint64_t id, Watcher watcher, const Coordinator& coordinator, absl::Time now) {
  Entry& entry = entries_[id];
  entry.watcher = std::move(watcher);
  Look(entry, coordinator, now);
}

void StatsWatchers::Remove(uint64_t id) { entries_.erase(id); }

absl::Time StatsWatchers::NextWakeup() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [id, entry] : entries_) next = std::min(next, entry.due);
  return next;
}

void StatsWatchers::Wake(const Coordinator& coordinator, absl::Time now) {
  for (auto& [id, entry] : entries_) {
    if (entry.due <= now) Look(entry, coordinator, now);
  }
}

void StatsWatchers::Look(Entry& entry, const Coordinator& coordinator, absl::Time now) {
  const bool each_window = entry.watcher.interval == absl::ZeroDuration();
  // Not due + interval: after a stall there is one update, not many.
  entry.due = now + (each_window ? kLookInterval : entry.watcher.interval);
  for (const std::string& group : coordinator.ListGroups()) {
    if (!entry.watcher.group.empty() && entry.watcher.group != group) continue;
    const StatsQuery query{
        .num_windows = entry.watcher.num_windows, .span = absl::ZeroDuration(), .brief = entry.watcher.brief};
    v1::StatsUpdate update;
    if (!FillUpdate(coordinator, group, query, now, &update).ok()) continue;  // just gone
    const auto& windows = update.stats().windows();
    const int64_t begin = windows.empty() ? 0 : windows[windows.size() - 1].begin_unix_us();
    Sent& sent = entry.sent[group];
    if (each_window && begin == sent.begin_unix_us && now < sent.at + kQuietMax) continue;
    sent = {.at = now, .begin_unix_us = begin};
    entry.watcher.push(group, update);
  }
}

}  // namespace evenkeel::controller
