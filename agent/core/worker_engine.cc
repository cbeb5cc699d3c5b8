// SPDX-License-Identifier: Apache-2.0
//
// What the Worker sees of its engine and of the engines beside it.
#include <algorithm>
#include <utility>

#include "agent/core/worker.h"

namespace evenkeel::agent {

void Worker::On(absl::Time now, const EngineObserved& event, Effects& effects) {
  quiesced_epoch_ = std::max(quiesced_epoch_, event.quiesced_epoch);
  quiesced_view_ = std::max(quiesced_view_, event.quiesced_view);
  digests_.erase(digests_.begin(), digests_.lower_bound(std::min(quiesced_epoch_, newest_->epoch)));
  const bool ends = (!event.status.alive && (!engine_seen_ || engine_.alive)) ||
                    (event.status.leaving && (!engine_seen_ || !engine_.leaving)) ||
                    (event.status.suspended && (!engine_seen_ || !engine_.suspended));
  engine_ = event.status;
  steps_ = {.num = event.num_steps_timed, .total = event.steps_time, .at = now};
  if (!engine_seen_) steps_reported_ = steps_;
  engine_seen_ = true;
  if (suspension_ == 0 && event.suspension != 0) {
    suspension_ = event.suspension;
    Suspend(now, effects);
  }
  if (ends && welcomed_) effects.push_back(SendToController{engine_});
  ReportQuiesced(effects);
}

void Worker::ReportQuiesced(Effects& effects) {
  const auto digest = digests_.find(quiesced_epoch_);
  if (!welcomed_ || digest == digests_.end()) return;
  const bool known = reported_any_ && reported_.epoch == quiesced_epoch_ && reported_.view_number == quiesced_view_;
  if (known) return;
  reported_ = {.epoch = quiesced_epoch_, .maps_digest = digest->second, .view_number = quiesced_view_};
  reported_any_ = true;
  effects.push_back(SendToController{reported_});
}

// A view that lacks a member may be older than its admission: that it has ended is kept for a view that has it.
void Worker::ReportPeersEnded(Effects& effects) {
  if (!welcomed_) return;
  for (auto& [member, reported] : peers_ended_) {
    const bool is_member = view_.number == 0 || std::binary_search(view_.members.begin(), view_.members.end(), member);
    if (!is_member || std::exchange(reported, true)) continue;
    effects.push_back(SendToController{PeerEnded{member}});
  }
}

void Worker::On(absl::Time, const PeerEngineEnded& event, Effects& effects) {
  if (event.member.rank == member_.rank) return;
  if (peers_ended_.size() >= kPeersEndedMax) peers_ended_.erase(peers_ended_.begin());
  peers_ended_.emplace(event.member, false);
  ReportPeersEnded(effects);
}

void Worker::On(absl::Time now, const CountersRead& event, Effects& effects) {
  load_.Fold(event);
  readings_answered_ = std::min(readings_answered_ + 1, readings_requested_);
  if (write_held_ && readings_answered_ >= write_reading_) WriteNewest(effects);
  if (report_reading_ == 0 || readings_answered_ < report_reading_) return;
  report_reading_ = 0;
  if (!welcomed_) return;
  next_report_ += settings_.report_interval;
  if (next_report_ <= now) next_report_ = now + settings_.report_interval;
  effects.push_back(SendToController{load_.Take(now)});
  if (engine_seen_) effects.push_back(SendToController{StatusWithSteps()});
}

EngineStatus Worker::StatusWithSteps() {
  EngineStatus status = engine_;
  const StepsSeen before = std::exchange(steps_reported_, steps_);
  const uint64_t num = steps_.num - std::min(before.num, steps_.num);
  if (num == 0 || steps_.at <= before.at) return status;
  status.mean_step_time = std::max(steps_.total - before.total, absl::ZeroDuration()) / static_cast<int64_t>(num);
  status.steps_per_second = static_cast<double>(num) / absl::ToDoubleSeconds(steps_.at - before.at);
  return status;
}

// ---- Suspension (rule 22)

void Worker::Suspend(absl::Time now, Effects& effects) {
  suspended_since_ = now;
  moves_.Suspend(effects);
}

// Where a controller speaks, its word that nobody reads these slots is waited for; where none does, orders were given by
// none for a while, and those who still read them have seen the engine's own word.
absl::Time Worker::NextGrant() const {
  if (suspension_ == 0 || granted_ || !moves_.open().empty() || moves_.slots().scrub_awaited()) {
    return absl::InfiniteFuture();
  }
  if (released_) return suspended_since_ + kReadersLook;
  return welcomed_ ? absl::InfiniteFuture() : std::max(suspended_since_, welcomed_until_) + kReadersGone;
}

void Worker::GrantIfQuiet(absl::Time now, Effects& effects) {
  if (welcomed_) welcomed_until_ = now;
  if (NextGrant() > now) return;
  granted_ = true;
  effects.push_back(GrantSuspension{suspension_});
}

void Worker::Obey(absl::Time, const SlotsReleased&, Effects&) { released_ = suspension_ != 0; }

}  // namespace evenkeel::agent
