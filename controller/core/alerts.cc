// SPDX-License-Identifier: Apache-2.0
#include "controller/core/alerts.h"

#include <algorithm>
#include <utility>

namespace evenkeel::controller {

void Alerts::Raise(std::string text, Lasts lasts, absl::Time now) {
  std::optional<absl::Time> ended;
  if (lasts == nullptr) ended = now;
  entries_.push_back({{std::move(text), now, ended}, std::move(lasts)});
  if (entries_.size() <= kKept) return;
  const auto over = std::ranges::find_if(entries_, [](const Entry& entry) { return entry.alert.ended.has_value(); });
  entries_.erase(over == entries_.end() || over == std::prev(entries_.end()) ? entries_.begin() : over);
}

std::vector<std::string> Alerts::End(const GroupState& group, absl::Time now) {
  std::vector<std::string> over;
  for (Entry& entry : entries_) {
    if (entry.alert.ended.has_value() || entry.lasts(group)) continue;
    entry.alert.ended = now;
    over.push_back(entry.alert.text);
  }
  return over;
}

void Alerts::EndAll(absl::Time now) {
  for (Entry& entry : entries_) {
    if (!entry.alert.ended.has_value()) entry.alert.ended = now;
  }
}

std::vector<Alert> Alerts::list() const {
  std::vector<Alert> list;
  for (const Entry& entry : entries_) list.push_back(entry.alert);
  return list;
}

}  // namespace evenkeel::controller
