// SPDX-License-Identifier: Apache-2.0
//
// MoveTable: the moves into this rank's slots: orders, attempts, deadlines, cancels.
//
// An order is accepted exactly once per (slot, generation): the generation is consumed whatever comes of it, so
// duplicates and late orders find it used. A move waits for a place and for a reading of the counters, then
// stores `writing`, then transfers; an attempt that fails or does not match is followed by the next source's,
// never before the one before has ended. What matches is announced to the engine, then verified, then
// reported.
//
// Limits:    one open move per slot; AgentSettings::concurrent_moves_max transfers. The bytes per second
//            granted to running transfers never add up to more than bytes_per_second_max.
// Order:     moves start in order of arrival.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

#include "agent/core/event.h"
#include "agent/core/slot_table.h"
#include "algos/protocol/messages.h"

namespace evenkeel::agent {

class MoveTable {
 public:
  enum class State : uint32_t { kQueued = 0, kTransferring = 1, kAwaitingPostMove = 2 };

  struct Move {
    MoveOrder order;
    State state = State::kQueued;
    uint64_t reply_id = 0;  // move id named in the answer: the order's, or that of the last cancel
    uint64_t arrival = 0;
    uint64_t reading = 0;  // may begin once this reading is folded
    absl::Time deadline;
    absl::Time began = absl::InfinitePast();
    int attempt = 0;  // running or last; the first is 1
    absl::Time attempt_deadline;
    bool cancel_sent = false;  // of the running attempt
    absl::Status given_up;     // not OK: no further attempt
    uint64_t bytes_per_second = 0;
    int num_mismatches = 0;
    absl::Status last_status;
    uint64_t bytes = 0;
  };

  MoveTable(const GroupInfo& group, SlotTable slots);

  void SetSettings(const AgentSettings& settings) { settings_ = settings; }

  // Accepts the order or answers why not. Requires for acceptance: the engine has quiesced at `quiesced`.
  void TakeOrder(absl::Time now, const MoveOrder& order, Epoch quiesced, uint64_t reading, Effects& effects);
  void Cancel(const CancelMove& cancel, Effects& effects);
  // Gives up what has not begun: nobody is left who knows of it.
  void CancelQueued(Effects& effects);
  // Gives up everything and takes no more; once the last copy has ended no record changes any more.
  void Suspend(Effects& effects);

  // Begins what has a place and whose reading is folded.
  void StartReady(absl::Time now, uint64_t readings_folded, Effects& effects);
  void EndTransfer(absl::Time now, const TransferEnded& event, Effects& effects);
  void EndPostMove(absl::Time now, const PostMoveAcknowledged& event, Effects& effects);

  void Expire(absl::Time now, Effects& effects);
  absl::Time NextDeadline() const;

  SlotTable& slots() { return slots_; }
  const SlotTable& slots() const { return slots_; }
  const absl::btree_map<std::pair<LayerId, SlotIdx>, Move>& open() const { return open_; }

 private:
  using Key = std::pair<LayerId, SlotIdx>;
  using Outcome = std::variant<MoveFinished, MoveFailed>;

  absl::Status CheckOrder(const MoveOrder& order, Epoch quiesced) const;
  void Refuse(uint64_t move_id, Key key, uint64_t generation, absl::Status why, Effects& effects) const;
  // Takes the generation without a byte written.
  void Consume(uint64_t move_id, Key key, uint64_t generation, absl::Status why, Effects& effects);
  void StartAttempt(absl::Time now, Move& move, Effects& effects);
  void Fail(Key key, absl::Status why, Effects& effects);
  int AttemptsOf(const Move& move) const;
  void Close(Key key);

  GroupInfo group_;
  SlotTable slots_;
  AgentSettings settings_;
  absl::btree_map<Key, Move> open_;
  absl::btree_map<Key, Outcome> outcomes_;  // of the last move of each slot
  uint64_t num_arrived_ = 0;
  bool suspended_ = false;
};

}  // namespace evenkeel::agent
