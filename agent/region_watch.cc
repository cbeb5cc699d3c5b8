// SPDX-License-Identifier: Apache-2.0
#include "agent/region_watch.h"

#include <algorithm>

namespace evenkeel::agent {

bool RegionWatch::Awaits() const {
  return !post_moves_.empty() || seen_.epoch < awaited_.epoch || seen_.view_number < awaited_.view_number;
}

void RegionWatch::Begin(absl::Time now) {
  awaited_since_ = now;
  next_poll_ = std::min(next_poll_, now);
}

void RegionWatch::AwaitQuiescence(absl::Time now, Epoch epoch, uint64_t view_number) {
  awaited_.epoch = std::max(awaited_.epoch, epoch);
  awaited_.view_number = std::max(awaited_.view_number, view_number);
  Begin(now);
}

void RegionWatch::AwaitPostMove(absl::Time now, LayerId layer, SlotIdx slot, uint64_t generation) {
  post_moves_.emplace(layer, slot, generation);
  Begin(now);
}

std::vector<Event> RegionWatch::Poll(absl::Time now) {
  std::vector<Event> events;
  const engine::Quiescence quiesced = region_.ReadQuiesced();
  if (quiesced != seen_ || now >= next_full_) {
    seen_ = quiesced;
    next_full_ = now + kSlow;
    EngineObserved observed;
    observed.quiesced_epoch = quiesced.epoch;
    observed.quiesced_view = quiesced.view_number;
    observed.status = region_.ReadStatus();
    observed.suspension = suspension_ = region_.Suspension();
    const engine::StepTimes times = region_.ReadStepTimes();
    observed.num_steps_timed = times.num_steps;
    observed.steps_time = times.total;
    alive_ = observed.status.alive;
    events.push_back(std::move(observed));
  }
  for (auto awaited = post_moves_.begin(); awaited != post_moves_.end();) {
    const auto [layer, slot, generation] = *awaited;
    if (region_.PostMoveAcknowledged(layer, slot, generation)) {
      events.push_back(PostMoveAcknowledged{.layer = layer, .slot = slot, .generation = generation});
      awaited = post_moves_.erase(awaited);
    } else if (region_.ReadSlot(layer, slot).generation != generation) {
      awaited = post_moves_.erase(awaited);  // given up, and the slot has gone on
    } else {
      ++awaited;
    }
  }
  absl::Duration interval = kSlow;
  if (Awaits()) {
    const absl::Duration waited = now - awaited_since_;
    interval = waited < kFastFor ? kFast : std::clamp(waited / 20, kFast, kSlow);
  }
  next_poll_ = std::min(now + interval, next_full_);
  return events;
}

}  // namespace evenkeel::agent
