// SPDX-License-Identifier: Apache-2.0
//
// PlacementHistory: what layers held before each operation that moved experts, so that it can be undone.
//
// An operation is undone together with all after it. What ranks that came, went or were lost did to placements beside is
// not here: plans for ranks that are there now see to it.
//
// Threads:   none. Owned by GroupState; of this controller's life alone.
// Limits:    kEntriesMax operations and kSlotsMax slots; the oldest go first.
// Errors:    kNotFound naming what history does not hold any more, or never did.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/placement.h"
#include "algos/protocol/identity.h"

namespace evenkeel::controller {

class PlacementHistory {
 public:
  static constexpr size_t kEntriesMax = 64;
  static constexpr size_t kSlotsMax = size_t{1} << 21;

  struct Entry {
    std::string operation_id;
    Epoch epoch;  // newest published as it began
    absl::Time time;
    std::vector<std::pair<LayerId, algos::Placement>> before;  // of the layers that it was to change, ascending
  };
  // Placements to go back to; layers that are not here stay.
  using Layers = absl::btree_map<LayerId, algos::Placement>;

  // An operation that moves twice (ranks that come or go) has an entry for each.
  void Add(Entry entry);

  // Before the newest operation.
  absl::StatusOr<Layers> BeforeLast() const;
  // Before an operation.
  absl::StatusOr<Layers> Before(std::string_view operation_id) const;
  // As the operations left it that had begun when `epoch` was the newest: all that began at it or later are undone.
  absl::StatusOr<Layers> At(const Epoch& epoch) const;

  // Oldest first.
  const std::deque<Entry>& entries() const { return entries_; }

 private:
  // What entries from `first` on replaced.
  Layers Undo(size_t first) const;

  std::deque<Entry> entries_;
  size_t num_slots_ = 0;
  std::optional<Epoch> dropped_;  // of the newest entry that was dropped
};

}  // namespace evenkeel::controller
