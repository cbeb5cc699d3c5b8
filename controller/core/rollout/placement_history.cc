// SPDX-License-Identifier: Apache-2.0
#include "controller/core/rollout/placement_history.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace evenkeel::controller {

namespace {

size_t SlotsOf(const PlacementHistory::Entry& entry) {
  size_t slots = 0;
  for (const auto& [layer, placement] : entry.before) slots += placement.expert_of_slot.size();
  return slots;
}

}  // namespace

void PlacementHistory::Add(Entry entry) {
  num_slots_ += SlotsOf(entry);
  entries_.push_back(std::move(entry));
  while (entries_.size() > kEntriesMax || (num_slots_ > kSlotsMax && entries_.size() > 1)) {
    num_slots_ -= SlotsOf(entries_.front());
    dropped_ = entries_.front().epoch;
    entries_.pop_front();
  }
}

PlacementHistory::Layers PlacementHistory::Undo(size_t first) const {
  Layers layers;
  for (size_t i = first; i < entries_.size(); ++i) {
    for (const auto& [layer, placement] : entries_[i].before) layers.try_emplace(layer, placement);
  }
  return layers;
}

absl::StatusOr<PlacementHistory::Layers> PlacementHistory::BeforeLast() const {
  if (entries_.empty()) return absl::NotFoundError("no operation has moved anything under this controller");
  return Before(entries_.back().operation_id);
}

absl::StatusOr<PlacementHistory::Layers> PlacementHistory::Before(std::string_view operation_id) const {
  const auto found = std::ranges::find(entries_, operation_id, &Entry::operation_id);
  if (found != entries_.end()) return Undo(static_cast<size_t>(found - entries_.begin()));
  return absl::NotFoundError(absl::StrCat("operation ", std::string(operation_id),
                                          " moved nothing, or history does not hold it any more: it holds the last ",
                                          entries_.size(), " that did"));
}

absl::StatusOr<PlacementHistory::Layers> PlacementHistory::At(const Epoch& epoch) const {
  const auto found = std::ranges::find_if(entries_, [&](const Entry& entry) { return entry.epoch >= epoch; });
  if (found == entries_.end())
    return absl::NotFoundError(absl::StrCat("nothing was moved since epoch ", epoch.ToString()));
  const bool known =
      found != entries_.begin() || (dropped_.has_value() ? epoch > *dropped_ : epoch.term == found->epoch.term);
  if (known) return Undo(static_cast<size_t>(found - entries_.begin()));
  return absl::NotFoundError(absl::StrCat(
      "epoch ", epoch.ToString(), " is before what history holds: it begins at epoch ", found->epoch.ToString()));
}

}  // namespace evenkeel::controller
