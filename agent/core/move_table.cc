// SPDX-License-Identifier: Apache-2.0
#include "agent/core/move_table.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"

namespace evenkeel::agent {

namespace {

std::string NameOf(const MoveSource& source) {
  if (source.member.rank.valid()) return absl::StrCat("rank ", source.member.rank.value());
  return absl::StrCat(source.endpoint.transport, " of host ", source.endpoint.host);
}

}  // namespace

MoveTable::MoveTable(const GroupInfo& group, SlotTable slots) : group_(group), slots_(std::move(slots)) {}

absl::Status MoveTable::CheckOrder(const MoveOrder& order, Epoch quiesced) const {
  if (!order.expert.valid() || order.expert.value() >= group_.shape.num_experts) {
    return absl::InvalidArgumentError(absl::StrCat("expert ", order.expert.value(), " is unknown"));
  }
  if (order.sources.empty()) return absl::InvalidArgumentError("no source is named");
  if (order.deadline <= absl::ZeroDuration()) return absl::DeadlineExceededError("the deadline has passed");
  if (slots_.at(order.layer, order.slot).record.state == SlotState::kCondemned) {
    return absl::FailedPreconditionError(absl::StrCat("slot ", order.slot.value(), " is condemned"));
  }
  for (const auto& [key, move] : open_) {
    if (move.order.move_id == order.move_id) {
      return absl::FailedPreconditionError(absl::StrCat("move ", order.move_id, " is under way elsewhere"));
    }
  }
  if (order.retired_since > quiesced) {
    return absl::FailedPreconditionError(absl::StrCat("slot ", order.slot.value(), " is retired since ",
                                                      order.retired_since.ToString(), ", the engine has quiesced at ",
                                                      quiesced.ToString()));
  }
  return slots_.CheckWritable(order.layer, order.slot, quiesced);
}

void MoveTable::Refuse(uint64_t move_id, Key key, uint64_t generation, absl::Status why, Effects& effects) const {
  effects.push_back(SendToController{MoveFailed{.move_id = move_id,
                                                .layer = key.first,
                                                .slot = key.second,
                                                .generation = generation,
                                                .status = std::move(why),
                                                .source = RankId()}});
}

void MoveTable::Consume(uint64_t move_id, Key key, uint64_t generation, absl::Status why, Effects& effects) {
  const auto [layer, slot] = key;
  SlotRecord record = slots_.at(layer, slot).record;
  EVENKEEL_CHECK(generation == record.generation + 1 && record.state != SlotState::kWriting);
  record.generation = generation;
  slots_.Store(layer, slot, record, effects);
  MoveFailed failed{.move_id = move_id,
                    .layer = layer,
                    .slot = slot,
                    .generation = generation,
                    .status = std::move(why),
                    .content_kept = slots_.HoldsContent(layer, slot),
                    .source = RankId()};
  outcomes_[key] = failed;
  effects.push_back(SendToController{std::move(failed)});
}

void MoveTable::TakeOrder(absl::Time now, const MoveOrder& order, Epoch quiesced, uint64_t reading, Effects& effects) {
  const Key key(order.layer, order.slot);
  if (!slots_.Owns(order.layer, order.slot)) {
    absl::Status why = absl::InvalidArgumentError(
        absl::StrCat("layer ", order.layer.value(), " slot ", order.slot.value(), " is not of this rank"));
    return Refuse(order.move_id, key, order.generation, std::move(why), effects);
  }
  if (suspended_) {
    return Refuse(order.move_id, key, order.generation, absl::UnavailableError("the engine is suspended"), effects);
  }
  const auto open = open_.find(key);
  const bool pending = open != open_.end();
  if (pending && open->second.order.generation == order.generation && open->second.order.move_id == order.move_id) {
    return;  // comes twice; answered when it ends
  }
  const uint64_t held = slots_.at(order.layer, order.slot).record.generation;
  if (pending || order.generation != held + 1) {
    const auto outcome = outcomes_.find(key);
    const bool known =
        !pending && outcome != outcomes_.end() &&
        std::visit(
            [&](const auto& last) { return last.generation == order.generation && last.move_id == order.move_id; },
            outcome->second);
    if (known) {
      std::visit([&](const auto& last) { effects.push_back(SendToController{last}); }, outcome->second);
      return;
    }
    absl::Status why = absl::FailedPreconditionError(
        absl::StrCat("slot ", order.slot.value(), " is at generation ", held, ", the order is for ", order.generation));
    return Refuse(order.move_id, key, order.generation, std::move(why), effects);
  }
  if (absl::Status why = CheckOrder(order, quiesced); !why.ok()) {
    return Consume(order.move_id, key, order.generation, std::move(why), effects);
  }
  Move move;
  move.order = order;
  move.reply_id = order.move_id;
  move.arrival = num_arrived_++;
  move.reading = reading;
  move.deadline = now + order.deadline;
  open_.emplace(key, std::move(move));
  slots_.SetMoveOpen(order.layer, order.slot, true);
}

void MoveTable::Cancel(const CancelMove& cancel, Effects& effects) {
  const Key key(cancel.layer, cancel.slot);
  if (!slots_.Owns(cancel.layer, cancel.slot)) {
    absl::Status why = absl::InvalidArgumentError(
        absl::StrCat("layer ", cancel.layer.value(), " slot ", cancel.slot.value(), " is not of this rank"));
    return Refuse(cancel.move_id, key, cancel.generation, std::move(why), effects);
  }
  const absl::Status why = absl::AbortedError("cancelled");
  if (const auto open = open_.find(key); open != open_.end() && open->second.order.generation == cancel.generation) {
    Move& move = open->second;
    // A controller that took over does not know the order's id.
    move.reply_id = cancel.move_id;
    if (move.given_up.ok()) move.given_up = why;
    if (move.state != State::kTransferring) return Fail(key, why, effects);
    if (!std::exchange(move.cancel_sent, true)) {
      effects.push_back(CancelTransfer{.move_id = move.order.move_id, .attempt = move.attempt});
    }
    return;
  }
  const auto outcome = outcomes_.find(key);
  if (outcome != outcomes_.end()) {
    const bool answered = std::visit(
        [&](auto last) {
          if (last.generation != cancel.generation) return false;
          last.move_id = cancel.move_id;
          effects.push_back(SendToController{std::move(last)});
          return true;
        },
        outcome->second);
    if (answered) return;
  }
  const SlotTable::Slot& slot = slots_.at(cancel.layer, cancel.slot);
  if (cancel.generation == slot.record.generation + 1 && !slot.move_open && !suspended_) {
    return Consume(cancel.move_id, key, cancel.generation, why, effects);
  }
  Refuse(cancel.move_id, key, cancel.generation,
         absl::AbortedError(absl::StrCat("slot ", cancel.slot.value(), " is at generation ", slot.record.generation)),
         effects);
}

void MoveTable::CancelQueued(Effects& effects) {
  std::vector<Key> queued;
  for (const auto& [key, move] : open_) {
    if (move.state == State::kQueued) queued.push_back(key);
  }
  for (const Key& key : queued) Fail(key, absl::AbortedError("the controller's stream ended"), effects);
}

void MoveTable::Suspend(Effects& effects) {
  suspended_ = true;
  const absl::Status why = absl::AbortedError("the engine is being suspended");
  std::vector<Key> waiting;
  for (auto& [key, move] : open_) {
    if (move.state != State::kTransferring) {
      waiting.push_back(key);
      continue;
    }
    if (move.given_up.ok()) move.given_up = why;
    if (!std::exchange(move.cancel_sent, true)) {
      effects.push_back(CancelTransfer{.move_id = move.order.move_id, .attempt = move.attempt});
    }
  }
  for (const Key& key : waiting) Fail(key, why, effects);
}

int MoveTable::AttemptsOf(const Move& move) const {
  return static_cast<int>(move.order.sources.size()) * std::max(1, settings_.attempts_per_source);
}

void MoveTable::StartReady(absl::Time now, uint64_t readings_folded, Effects& effects) {
  const int places = std::max(1, settings_.concurrent_moves_max);
  int running = 0;
  uint64_t granted = 0;
  std::vector<Move*> ready;
  for (auto& [key, move] : open_) {
    if (move.state == State::kTransferring) {
      ++running;
      granted += move.bytes_per_second;
    } else if (move.state == State::kQueued && move.reading <= readings_folded) {
      ready.push_back(&move);
    }
  }
  std::sort(ready.begin(), ready.end(), [](const Move* a, const Move* b) { return a->arrival < b->arrival; });
  if (ready.size() > static_cast<size_t>(std::max(0, places - running))) {
    ready.resize(static_cast<size_t>(std::max(0, places - running)));
  }
  if (ready.empty()) return;
  const uint64_t budget = settings_.bytes_per_second_max;
  const uint64_t fair = budget / (static_cast<uint64_t>(running) + ready.size());
  for (Move* move : ready) {
    const uint64_t grant = std::min(std::max<uint64_t>(fair, 1), budget - std::min(budget, granted));
    // A crumb of the budget is no reason to begin: the move waits until another has ended.
    if (budget > 0 && (grant == 0 || grant < budget / (2 * static_cast<uint64_t>(places)))) return;
    granted += grant;
    move->bytes_per_second = grant;
    move->state = State::kTransferring;
    move->began = now;
    const SlotRecord writing{
        .state = SlotState::kWriting, .expert = move->order.expert, .generation = move->order.generation};
    slots_.Store(move->order.layer, move->order.slot, writing, effects);
    StartAttempt(now, *move, effects);
  }
}

void MoveTable::StartAttempt(absl::Time now, Move& move, Effects& effects) {
  const int left = AttemptsOf(move) - move.attempt;
  const size_t source = static_cast<size_t>(move.attempt) % move.order.sources.size();
  ++move.attempt;
  move.cancel_sent = false;
  // So that a source which never answers leaves time for the others.
  move.attempt_deadline = now + (move.deadline - now) / std::max(1, left);
  effects.push_back(StartTransfer{.move_id = move.order.move_id,
                                  .attempt = move.attempt,
                                  .layer = move.order.layer,
                                  .expert = move.order.expert,
                                  .slot = move.order.slot,
                                  .fingerprint = move.order.fingerprint,
                                  .source = move.order.sources[source],
                                  .deadline = move.attempt_deadline,
                                  .bytes_per_second_max = move.bytes_per_second,
                                  .transport = settings_.transport});
}

void MoveTable::EndTransfer(absl::Time now, const TransferEnded& event, Effects& effects) {
  const auto open = std::find_if(open_.begin(), open_.end(), [&](const auto& entry) {
    const Move& move = entry.second;
    return move.order.move_id == event.move_id && move.attempt == event.attempt && move.state == State::kTransferring;
  });
  if (open == open_.end()) return;
  const Key key = open->first;
  Move& move = open->second;
  move.bytes += event.bytes;
  if (!move.given_up.ok()) return Fail(key, move.given_up, effects);
  if (event.status.ok() && event.fingerprint == move.order.fingerprint) {
    move.state = State::kAwaitingPostMove;
    effects.push_back(NotifyPostMove{.layer = key.first, .slot = key.second, .generation = move.order.generation});
    return;
  }
  const MoveSource& source = move.order.sources[static_cast<size_t>(move.attempt - 1) % move.order.sources.size()];
  if (event.status.ok()) {
    ++move.num_mismatches;
    move.last_status = absl::DataLossError(absl::StrCat(
        "layer ", key.first.value(), " expert ", move.order.expert.value(), " from ", NameOf(source),
        " has fingerprint ", absl::Hex(event.fingerprint), ", expected is ", absl::Hex(move.order.fingerprint)));
  } else if (move.num_mismatches == 0) {
    move.last_status = move.cancel_sent
                           ? absl::DeadlineExceededError(absl::StrCat(NameOf(source), " did not send in time"))
                           : event.status;
  }
  if (move.attempt < AttemptsOf(move) && now < move.deadline) return StartAttempt(now, move, effects);
  Fail(key, move.last_status, effects);
}

void MoveTable::EndPostMove(absl::Time now, const PostMoveAcknowledged& event, Effects& effects) {
  const Key key(event.layer, event.slot);
  const auto open = open_.find(key);
  if (open == open_.end()) return;
  const Move& move = open->second;
  if (move.state != State::kAwaitingPostMove || move.order.generation != event.generation) return;
  const SlotRecord verified{.state = SlotState::kVerified,
                            .expert = move.order.expert,
                            .generation = move.order.generation,
                            .fingerprint = move.order.fingerprint};
  slots_.Store(key.first, key.second, verified, effects);
  const MoveFinished finished{.move_id = move.reply_id,
                              .layer = key.first,
                              .slot = key.second,
                              .generation = move.order.generation,
                              .fingerprint = move.order.fingerprint,
                              .bytes = move.bytes,
                              .elapsed = now - move.began,
                              .num_mismatches = move.num_mismatches};
  Close(key);
  outcomes_[key] = finished;
  effects.push_back(SendToController{finished});
}

void MoveTable::Fail(Key key, absl::Status why, Effects& effects) {
  const Move move = open_.at(key);
  Close(key);
  if (move.state == State::kQueued) {
    return Consume(move.reply_id, key, move.order.generation, std::move(why), effects);
  }
  const SlotRecord freed{.state = SlotState::kFree, .expert = kNoExpert, .generation = move.order.generation};
  slots_.Store(key.first, key.second, freed, effects);
  const size_t source = static_cast<size_t>(move.attempt - 1) % move.order.sources.size();
  MoveFailed failed{.move_id = move.reply_id,
                    .layer = key.first,
                    .slot = key.second,
                    .generation = move.order.generation,
                    .status = std::move(why),
                    .source = move.order.sources[source].member.rank,
                    .num_mismatches = move.num_mismatches};
  outcomes_[key] = failed;
  effects.push_back(SendToController{std::move(failed)});
}

void MoveTable::Close(Key key) {
  open_.erase(key);
  slots_.SetMoveOpen(key.first, key.second, false);
}

void MoveTable::Expire(absl::Time now, Effects& effects) {
  std::vector<Key> late;
  for (auto& [key, move] : open_) {
    if (move.state != State::kTransferring) {
      if (move.deadline <= now) late.push_back(key);
    } else if (move.attempt_deadline <= now && !std::exchange(move.cancel_sent, true)) {
      effects.push_back(CancelTransfer{.move_id = move.order.move_id, .attempt = move.attempt});
    }
  }
  for (const Key& key : late) {
    const bool queued = open_.at(key).state == State::kQueued;
    absl::Status why = absl::DeadlineExceededError(queued ? "no place or no reading of counters in time"
                                                          : "the engine did not acknowledge post_move in time");
    Fail(key, std::move(why), effects);
  }
}

absl::Time MoveTable::NextDeadline() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [key, move] : open_) {
    if (move.state != State::kTransferring) {
      next = std::min(next, move.deadline);
    } else if (!move.cancel_sent) {
      next = std::min(next, move.attempt_deadline);
    }
  }
  return next;
}

}  // namespace evenkeel::agent
