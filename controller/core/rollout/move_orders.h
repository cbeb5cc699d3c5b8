// SPDX-License-Identifier: Apache-2.0
//
// MoveOrders: the moves that agents were told to make and have not answered for.
//
// An order is open until its agent says how it ended, in a message or by the inventory of its next Attach. Past its
// deadline it is cancelled, again and again, for only the agent's word frees the slot (rule 6).
//
// Threads:   none. Owned by Group.
// Order:     ids grow; listings are by id.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/protocol/identity.h"
#include "algos/protocol/messages.h"
#include "controller/core/event.h"
#include "controller/core/ranks/membership.h"
#include "controller/core/rollout/slot_table.h"

namespace evenkeel::controller {

struct OpenOrder {
  uint64_t move_id = 0;
  LayerId layer;
  SlotIdx slot;
  ExpertId expert;
  uint64_t generation = 0;
  std::vector<SlotIdx> sources;  // all that the agent may read; the first is the one it should
  absl::Time readable_until;     // sources are not given up before
  absl::Time next_cancel;        // if not answered
  bool cancelled = false;
};

class MoveOrders {
 public:
  // Answers are late, not lost, for this long.
  static constexpr absl::Duration kAnswerSlack = absl::Seconds(1);
  static constexpr absl::Duration kCancelInterval = absl::Seconds(2);
  // Of other hosts, that one order names: each takes a share of its time. A retry names others.
  static constexpr int kOtherPoolsMax = 8;

  // Ids are unique over terms and, through ContinueAt, over the groups of one name in a term.
  explicit MoveOrders(uint32_t term) { SetTerm(term); }
  // Requires: nothing was ordered yet.
  void SetTerm(uint32_t term) { next_id_ = uint64_t{term} << 32 | 1; }
  uint64_t next_id() const { return next_id_; }
  // Requires: nothing was ordered yet.
  void ContinueAt(uint64_t next_id) { next_id_ = next_id; }

  struct Request {
    LayerId layer;
    SlotIdx slot;
    ExpertId expert;
    std::vector<SlotIdx> sources;  // best first; those that are no longer live are passed over; none: stores alone
    RankId avoid_source;           // the last one that failed; goes to the end of the list
  };
  // Orders the move, from live replicas first, then from stores: the pool of the slot's host, those of other hosts,
  // the snapshot. kUnavailable where none can be read from the slot's rank.
  // Requires: the slot may be written and its rank is attached.
  absl::Status Send(const Request& request, const GroupSettings& settings, const Membership& members, SlotTable& slots,
                    absl::Time now, Effects& effects);

  // The order for a slot has ended; returns it. Empty where none is open.
  std::optional<OpenOrder> End(LayerId layer, SlotIdx slot);

  // Asks the agent to give a move up, now and every kCancelInterval until it answers.
  void Cancel(LayerId layer, SlotIdx slot, const Membership& members, const SlotTable& slots, absl::Time now,
              Effects& effects);
  void Tick(const Membership& members, const SlotTable& slots, absl::Time now, Effects& effects);
  absl::Time NextWakeup() const { return next_wakeup_; }

  const absl::btree_map<uint64_t, OpenOrder>& open() const { return open_; }
  const OpenOrder* Find(LayerId layer, SlotIdx slot) const;
  // Moves that may still read from each slot of a layer: [num_slots].
  std::vector<int> Readers(LayerId layer, int num_slots, absl::Time now) const;
  bool IsRead(LayerId layer, SlotIdx slot, absl::Time now) const;

 private:
  void SetWakeup();

  absl::btree_map<uint64_t, OpenOrder> open_;
  uint64_t next_id_ = 0;
  absl::Time next_wakeup_ = absl::InfiniteFuture();
};

}  // namespace evenkeel::controller
