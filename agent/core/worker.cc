// SPDX-License-Identifier: Apache-2.0
#include "agent/core/worker.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "agent/core/map_update.h"
#include "agent/core/slot_table.h"
#include "algos/base/check.h"
#include "algos/layer_map.h"
#include "algos/placement.h"

namespace evenkeel::agent {

namespace {

// The expert that each counted slot holds when an agent takes the region over.
std::vector<ExpertId> CountedExperts(const RegionState& region) {
  std::vector<ExpertId> experts;
  if (region.group.count_place == CountPlace::kAfterDispatch) {
    for (const SlotRecord& record : region.slots) experts.push_back(record.expert);
    return experts;
  }
  for (const algos::LayerMap& layer : region.maps->layers) {
    const algos::Placement placement = algos::PlacementOf(layer, region.group.shape.num_slots());
    experts.insert(experts.end(), placement.expert_of_slot.begin(), placement.expert_of_slot.end());
  }
  return experts;
}

CountersRead CountersAsFound(const RegionState& region) {
  CountersRead found;
  found.tokens_of_slot = region.tokens_of_slot;
  found.prefill_of_slot = region.prefill_of_slot;
  found.decode_of_slot = region.decode_of_slot;
  return found;
}

void DropMessages(Effects& effects) {
  std::erase_if(effects, [](const Effect& effect) { return std::holds_alternative<SendToController>(effect); });
}

absl::Status CheckView(const View& view, int num_ranks) {
  RankId previous;
  for (const Member& member : view.members) {
    if (member.rank <= previous || member.rank.value() >= num_ranks) {
      return absl::InvalidArgumentError(
          absl::StrCat("view ", view.number, ": rank ", member.rank.value(), " is unknown or out of order"));
    }
    previous = member.rank;
  }
  return absl::OkStatus();
}

}  // namespace

Worker::Worker(RegionState region)
    : group_(region.group),
      member_(region.member),
      joining_(region.joining),
      endpoints_(std::move(region.endpoints)),
      term_obeyed_(region.term_obeyed),
      view_(std::move(region.view)),
      newest_(region.maps),
      written_epoch_(newest_->epoch),
      quiesced_epoch_(region.quiesced_epoch),
      suspension_(region.suspension),
      moves_(group_, SlotTable(group_, member_.rank, region.slots, *newest_)),
      load_(group_, member_.rank, CountedExperts(region), CountersAsFound(region)) {
  digests_[newest_->epoch] = newest_->digest;
}

Effects Worker::Step(absl::Time now, const Event& event) {
  Effects effects;
  if (!std::exchange(leftovers_freed_, true)) {
    moves_.slots().FreeLeftovers(effects);
    if (suspension_ != 0) Suspend(now, effects);
  }
  std::visit([&](const auto& happened) { On(now, happened, effects); }, event);
  RunTimers(now, effects);
  Settle(effects);
  return effects;
}

absl::Time Worker::NextWakeup() const {
  absl::Time next = std::min(moves_.NextDeadline(), write_retry_);
  if (welcomed_ && report_reading_ == 0) next = std::min(next, next_report_);
  if (!moves_.slots().scrub_awaited() && suspension_ == 0) next = std::min(next, next_scrub_);
  return std::min(next, NextGrant());
}

// ---- The stream

void Worker::On(absl::Time, const StreamOpened& event, Effects& effects) {
  LeaveStream(effects);
  stream_ = event.stream;
  open_ = true;
  reported_any_ = false;
  for (auto& [member, reported] : peers_ended_) reported = false;
  updates_waiting_.clear();
  endpoints_told_ = true;
  effects.push_back(SendToController{Inventory()});
}

void Worker::On(absl::Time, const StreamClosed& event, Effects& effects) {
  if (open_ && event.stream == stream_) LeaveStream(effects);
}

// What has not begun is given up: the next controller plans from an inventory that does not know of it.
void Worker::LeaveStream(Effects& effects) {
  open_ = welcomed_ = false;
  moves_.CancelQueued(effects);
  DropMessages(effects);
}

void Worker::HangUp(absl::Status why, Effects& effects) {
  LeaveStream(effects);
  effects.push_back(CloseStream{std::move(why)});
}

void Worker::On(absl::Time now, const MessageReceived& event, Effects& effects) {
  if (!open_ || event.stream != stream_) return;
  const bool greets = std::holds_alternative<Welcome>(event.message) || std::holds_alternative<Refused>(event.message);
  if (!welcomed_ && !greets) return;
  std::visit([&](const auto& message) { Obey(now, message, effects); }, event.message);
}

void Worker::Obey(absl::Time now, const Welcome& message, Effects& effects) {
  if (message.term < term_obeyed_) {
    return HangUp(absl::FailedPreconditionError(
                      absl::StrCat("controller of term ", message.term, ", term ", term_obeyed_, " is obeyed")),
                  effects);
  }
  if (message.term > term_obeyed_) {
    term_obeyed_ = message.term;
    effects.push_back(StoreTerm{term_obeyed_});
  }
  settings_ = message.settings;
  moves_.SetSettings(settings_);
  welcomed_ = true;
  next_report_ = now + settings_.report_interval;
  const absl::Duration scrub = settings_.scrub_interval;
  next_scrub_ = scrub > absl::ZeroDuration() ? now + scrub : absl::InfiniteFuture();
  if (engine_seen_ && (!engine_.alive || engine_.leaving || engine_.suspended))
    effects.push_back(SendToController{engine_});
  ReportPeersEnded(effects);
  if (!std::exchange(endpoints_told_, true)) effects.push_back(SendToController{EndpointsChanged{endpoints_}});
  ReportQuiesced(effects);
}

void Worker::Obey(absl::Time, const Refused& message, Effects& effects) { HangUp(message.status, effects); }

void Worker::Obey(absl::Time, const ViewUpdate& message, Effects& effects) {
  if (message.view.number <= view_.number) return;
  if (absl::Status why = CheckView(message.view, group_.shape.num_ranks); !why.ok()) {
    return HangUp(std::move(why), effects);
  }
  view_ = message.view;
  effects.push_back(StoreView{view_});
  ReportPeersEnded(effects);
  std::vector<MapsUpdate> waiting = std::exchange(updates_waiting_, {});
  for (MapsUpdate& update : waiting) {
    if (update.view_number > view_.number) {
      updates_waiting_.push_back(std::move(update));
    } else {
      TakeMaps(update, effects);
    }
  }
}

void Worker::Obey(absl::Time, const MapsUpdate& message, Effects& effects) {
  if (message.view_number <= view_.number) return TakeMaps(message, effects);
  if (updates_waiting_.size() < kUpdatesWaitingMax) {
    updates_waiting_.push_back(message);
    return;
  }
  effects.push_back(SendToController{MapsRefused{.epoch = message.epoch,
                                                 .held_epoch = newest_->epoch,
                                                 .held_digest = newest_->digest,
                                                 .reason = "too many updates wait for their view"}});
}

void Worker::Obey(absl::Time now, const MoveOrder& message, Effects& effects) {
  // Taken now that the slot's last user here has gone, the reading credits all of its load to the old expert.
  const uint64_t reading = readings_requested_ + 1;
  const size_t open_before = moves_.open().size();
  moves_.TakeOrder(now, message, quiesced_epoch_, reading, effects);
  if (moves_.open().size() > open_before) RequestReading(effects);
}

void Worker::Obey(absl::Time, const CancelMove& message, Effects& effects) { moves_.Cancel(message, effects); }

Attach Worker::Inventory() const {
  return Attach{.group = group_,
                .member = member_,
                .endpoints = endpoints_,
                .term_obeyed = term_obeyed_,
                .epoch = newest_->epoch,
                .maps_digest = newest_->digest,
                .quiesced_epoch = quiesced_epoch_,
                .view = view_,
                .joining = joining_,
                .suspended = suspension_ != 0,
                .slots = moves_.slots().Inventory()};
}

// ---- Maps

void Worker::TakeMaps(const MapsUpdate& update, Effects& effects) {
  if (update.epoch == newest_->epoch && update.maps_digest == newest_->digest) return;  // comes twice
  if (absl::Status why = Accept(update, effects); !why.ok()) {
    effects.push_back(SendToController{MapsRefused{.epoch = update.epoch,
                                                   .held_epoch = newest_->epoch,
                                                   .held_digest = newest_->digest,
                                                   .reason = std::string(why.message())}});
  }
}

absl::Status Worker::Accept(const MapsUpdate& update, Effects& effects) {
  if (update.epoch.term != term_obeyed_) {
    return absl::FailedPreconditionError(
        absl::StrCat("maps ", update.epoch.ToString(), " are not of term ", term_obeyed_, ", which is obeyed"));
  }
  absl::StatusOr<std::shared_ptr<const Maps>> maps = ApplyUpdate(*newest_, update, group_);
  if (!maps.ok()) return maps.status();
  for (const auto& [layer, map] : update.layers) {
    if (absl::Status why = moves_.slots().CheckNamed(layer, map); !why.ok()) return why;
  }
  newest_ = *std::move(maps);
  moves_.slots().SetNamed(*newest_);
  digests_[newest_->epoch] = newest_->digest;
  if (digests_.size() > kDigestsKeptMax) digests_.erase(digests_.begin());
  if (write_held_ || ChangesCountedExperts(*newest_)) {
    write_held_ = true;
    write_retry_ = absl::InfiniteFuture();
    write_reading_ = RequestReading(effects);
  } else {
    WriteNewest(effects);
  }
  return absl::OkStatus();
}

bool Worker::ChangesCountedExperts(const Maps& maps) const {
  if (group_.count_place != CountPlace::kRouter) return false;
  for (int l = 0; l < group_.num_layers; ++l) {
    const algos::LayerMap& map = maps.layers[static_cast<size_t>(l)];
    for (int e = 0; e < group_.shape.num_experts; ++e) {
      for (SlotIdx slot : map.slots_of(ExpertId(e))) {
        if (load_.expert_of(LayerId(l), slot) != ExpertId(e)) return true;
      }
    }
  }
  return false;
}

void Worker::WriteNewest(Effects& effects) {
  write_held_ = false;
  write_retry_ = absl::InfiniteFuture();
  if (group_.count_place == CountPlace::kRouter) {
    for (int l = 0; l < group_.num_layers; ++l) {
      const algos::LayerMap& map = newest_->layers[static_cast<size_t>(l)];
      for (int e = 0; e < group_.shape.num_experts; ++e) {
        for (SlotIdx slot : map.slots_of(ExpertId(e))) load_.SetExpert(LayerId(l), slot, ExpertId(e));
      }
    }
  }
  effects.push_back(WriteMaps{newest_});
}

void Worker::On(absl::Time now, const MapsWritten& event, Effects&) {
  if (event.written) {
    written_epoch_ = std::max(written_epoch_, event.epoch);
  } else if (event.epoch == newest_->epoch && write_pending() && !write_held_) {
    write_retry_ = now + kWriteRetry;
  }
}

// ---- Moves and slots

void Worker::On(absl::Time now, const TransferEnded& event, Effects& effects) {
  moves_.EndTransfer(now, event, effects);
}

void Worker::On(absl::Time now, const PostMoveAcknowledged& event, Effects& effects) {
  moves_.EndPostMove(now, event, effects);
}

void Worker::On(absl::Time, const SlotFingerprinted& event, Effects& effects) {
  moves_.slots().TakeFingerprint(event, effects);
}

void Worker::On(absl::Time, const OffersChanged& event, Effects& effects) {
  endpoints_ = event.endpoints;
  endpoints_told_ = welcomed_;
  if (welcomed_) effects.push_back(SendToController{EndpointsChanged{endpoints_}});
}

// ---- Time

void Worker::On(absl::Time, const Tick&, Effects&) {}

void Worker::RunTimers(absl::Time now, Effects& effects) {
  moves_.Expire(now, effects);
  moves_.StartReady(now, readings_answered_, effects);
  if (!granted_) moves_.slots().FreeLost(quiesced_epoch_, effects);
  if (write_retry_ <= now) WriteNewest(effects);
  if (welcomed_ && report_reading_ == 0 && next_report_ <= now) report_reading_ = RequestReading(effects);
  GrantIfQuiet(now, effects);
  if (next_scrub_ <= now && !moves_.slots().scrub_awaited() && suspension_ == 0) {
    next_scrub_ = now + settings_.scrub_interval;
    moves_.slots().ScrubNext(effects);
  }
}

uint64_t Worker::RequestReading(Effects& effects) {
  effects.push_back(ReadCounters{});
  return ++readings_requested_;
}

void Worker::Settle(Effects& effects) {
  for (const Effect& effect : effects) {
    const auto* store = std::get_if<StoreSlot>(&effect);
    if (store == nullptr || group_.count_place != CountPlace::kAfterDispatch) continue;
    // A slot that is freed goes on to count for what it held: its last tokens may not be read yet.
    if (store->record.expert.valid()) load_.SetExpert(store->layer, store->slot, store->record.expert);
  }
  if (!open_) DropMessages(effects);
}

}  // namespace evenkeel::agent
