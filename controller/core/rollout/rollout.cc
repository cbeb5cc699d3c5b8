// SPDX-License-Identifier: Apache-2.0
#include "controller/core/rollout/rollout.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "controller/core/rollout/targets.h"

namespace evenkeel::controller {

namespace {

constexpr int kBackOffDoublingsMax = 5;
constexpr int kDeadlineDoublingsMax = 3;

RolloutReport ReportOf(RolloutReport::Kind kind, LayerId layer, std::string operation_id, std::string text = {}) {
  RolloutReport report;
  report.kind = kind;
  report.layer = layer;
  report.operation_id = std::move(operation_id);
  report.text = std::move(text);
  return report;
}

}  // namespace

void Rollouts::Start(LayerId layer, algos::Placement target, std::string operation_id, absl::Time now) {
  LayerRollout& rollout = layers_[layer];
  rollout.target = std::move(target);
  rollout.operation_id = std::move(operation_id);
  rollout.num_undone = rollout.num_failed = rollout.num_undone_by_culprit = 0;
  rollout.backing_off = rollout.stopping = false;
  rollout.retry = now;
  for (WaveMove& move : rollout.wave.moves) {
    if (move.state == WaveMove::State::kWaiting) move.state = WaveMove::State::kEnded;
  }
}

void Rollouts::Stop(LayerId layer) {
  const auto found = layers_.find(layer);
  if (found == layers_.end()) return;
  if (found->second.in_wave) ReturnRetired(layer, found->second.wave);
  layers_.erase(found);
}

void Rollouts::StopAfterWave(LayerId layer) {
  const auto found = layers_.find(layer);
  if (found != layers_.end()) found->second.stopping = true;
}

void Rollouts::ReturnRetired(LayerId layer, const RolloutWave& wave) {
  for (SlotIdx slot : wave.retired) {
    if (scene_.slots.at(layer, slot).spare()) scene_.slots.StageAdd(layer, slot);
  }
}

void Rollouts::Pause(absl::Time now, Effects& effects) {
  for (auto& [layer, rollout] : layers_) {
    if (!rollout.in_wave || std::exchange(rollout.wave.paused, true)) continue;
    for (WaveMove& move : rollout.wave.moves) {
      if (move.state == WaveMove::State::kWaiting) move.state = WaveMove::State::kEnded;
      if (move.state != WaveMove::State::kOrdered) continue;
      scene_.orders.Cancel(layer, move.plan.slot, scene_.members, scene_.slots, now, effects);
    }
  }
}

// ---- Waves

void Rollouts::Plan(absl::Time now, const SlotLoads& loads, Effects& effects) {
  planned_ = now;
  for (auto& [layer, rollout] : layers_) PlanLayer(layer, rollout, now, loads, effects);
  for (LayerId layer : done_) layers_.erase(layer);
  done_.clear();
}

void Rollouts::PlanLayer(LayerId layer, LayerRollout& rollout, absl::Time now, const SlotLoads& loads,
                         Effects& effects) {
  std::vector<SlotIdx> staged;
  if (rollout.in_wave) {
    if (AllEnded(rollout.wave)) {
      CloseWave(layer, rollout, now, staged);
    } else if (rollout.wave.deadline <= now) {
      UndoWave(layer, rollout, now, effects);
    }
  }
  if (rollout.stopping && !rollout.in_wave) {
    ReturnRetired(layer, rollout.wave);
    reports_.push_back(ReportOf(Report::Kind::kLayerStopped, layer, rollout.operation_id));
    done_.push_back(layer);
    return;
  }
  if (rollout.num_undone >= kWavesUndoneMax || rollout.num_failed >= kWavesFailedMax) {
    Finish(layer, rollout, absl::UnavailableError(absl::StrCat("gave up layer ", layer.value(), ": ", rollout.reason)));
    return;
  }
  if (rollout.in_wave || rollout.retry > now) return;
  const int others = NumActive() - (rollout.backing_off ? 1 : 0);
  if (pace_ == MovePace::kPaused) return;
  if (others >= (pace_ == MovePace::kFree ? scene_.settings.concurrent_layers_max : 1)) return;
  if (!scene_.members.AllAttached()) return;  // silence freezes waves
  if (scene_.members.FirstUnsettled(scene_.info.weights_version).has_value()) return;
  BeginWave(layer, rollout, now, loads, staged);
}

void Rollouts::ReportEnd(LayerId layer, const LayerRollout& rollout, absl::Time now) {
  Report report = ReportOf(Report::Kind::kWaveEnded, layer, rollout.operation_id);
  report.retiring = std::min(rollout.wave.ordered, now) - rollout.wave.begun;
  report.moving = std::max(now - rollout.wave.ordered, absl::ZeroDuration());
  reports_.push_back(std::move(report));
}

void Rollouts::CloseWave(LayerId layer, LayerRollout& rollout, absl::Time now, std::vector<SlotIdx>& staged) {
  rollout.in_wave = false;
  ReportEnd(layer, rollout, now);
  for (const WaveMove& move : rollout.wave.moves) {
    const Slot& slot = scene_.slots.at(layer, move.plan.slot);
    if (slot.spare() && slot.expert == move.plan.expert) {
      scene_.slots.StageAdd(layer, move.plan.slot);
      staged.push_back(move.plan.slot);
    }
  }
  if (rollout.wave.paused) ReturnRetired(layer, rollout.wave);
  if (rollout.wave.verified_any || rollout.wave.moves.empty() || rollout.wave.paused) {
    rollout.num_undone = rollout.num_failed = rollout.num_undone_by_culprit = 0;
    return;
  }
  ++rollout.num_failed;
  BackOff(rollout, "every move of the wave failed", now);
}

void Rollouts::BackOff(LayerRollout& rollout, std::string reason, absl::Time now) {
  const int doublings = std::min(rollout.num_undone + rollout.num_failed - 1, kBackOffDoublingsMax);
  const absl::Duration step = std::max(scene_.settings.wave_deadline / 32, absl::Milliseconds(100));
  rollout.retry = now + step * (1 << std::max(doublings, 0));
  rollout.backing_off = true;
  rollout.reason = std::move(reason);
  if (rollout.num_undone + rollout.num_failed == 1) rollout.backing_off_since = now;
}

void Rollouts::UndoWave(LayerId layer, LayerRollout& rollout, absl::Time now, Effects& effects) {
  Blame blame = FindBlame(layer, rollout, view_number_);
  for (WaveMove& move : rollout.wave.moves) {
    if (move.state == WaveMove::State::kOrdered) {
      scene_.orders.Cancel(layer, move.plan.slot, scene_.members, scene_.slots, now, effects);
    }
    move.state = WaveMove::State::kEnded;
  }
  ReturnRetired(layer, rollout.wave);
  rollout.in_wave = false;
  ReportEnd(layer, rollout, now);
  rollout.num_undone = rollout.wave.verified_any ? 1 : rollout.num_undone + 1;
  rollout.num_undone_by_culprit = blame.rank == rollout.culprit ? rollout.num_undone_by_culprit + 1 : 1;
  rollout.culprit = blame.rank;
  if (rollout.num_undone_by_culprit == kAlertAfter) {
    reports_.push_back(ReportOf(Report::Kind::kAlert, layer, rollout.operation_id,
                                absl::StrCat("rank ", blame.rank.value(), " held up ", kAlertAfter, " waves of layer ",
                                             layer.value(), " in a row: ", blame.reason)));
  }
  reports_.push_back(ReportOf(Report::Kind::kWaveUndone, layer, rollout.operation_id,
                              absl::StrCat("rank ", blame.rank.value(), ": ", blame.reason)));
  BackOff(rollout, std::move(blame.reason), now);
}

void Rollouts::BeginWave(LayerId layer, LayerRollout& rollout, absl::Time now, const SlotLoads& loads,
                         std::vector<SlotIdx>& staged) {
  rollout.backing_off = false;
  rollout.target = WithoutCondemned(std::move(rollout.target), layer, scene_.slots);
  StageWanted(layer, rollout, staged);
  algos::MoveState state = MoveStateOf(layer, staged, scene_.slots, scene_.members, scene_.orders, layers_, now);
  if (algos::Reached(state, rollout.target)) {
    Finish(layer, rollout, absl::OkStatus());
    return;
  }
  state.load_of_slot = loads(layer);
  algos::MoveLimits limits = MoveLimitsOf(scene_.info, scene_.settings);
  if (pace_ != MovePace::kFree) limits.moves_per_rank_max = 1;
  absl::StatusOr<algos::Wave> wave = algos::NextWave(state, rollout.target, limits);
  if (!wave.ok()) {
    Finish(layer, rollout, wave.status());
  } else if (!wave->empty()) {
    EnterWave(layer, rollout, *std::move(wave), now);
  } else if (NumActive() == 0 && scene_.orders.open().empty()) {
    ++rollout.num_failed;
    BackOff(rollout, "no move is possible from the slots as they are", now);
  }
}

void Rollouts::EnterWave(LayerId layer, LayerRollout& rollout, algos::Wave wave, absl::Time now) {
  for (SlotIdx slot : wave.retire) scene_.slots.StageRetire(layer, slot);
  rollout.wave = RolloutWave();
  rollout.wave.retired = std::move(wave.retire);
  for (algos::PlannedMove& move : wave.moves)
    rollout.wave.moves.push_back({std::move(move), WaveMove::State::kWaiting});
  rollout.wave.begun = now;
  rollout.wave.deadline = now + WaveDeadline() * (1 << std::min(rollout.num_undone, kDeadlineDoublingsMax));
  rollout.in_wave = true;
  reports_.push_back(ReportOf(Report::Kind::kWaveBegun, layer, rollout.operation_id));
  reports_.back().num_moves = static_cast<int>(rollout.wave.moves.size());
}

absl::Duration Rollouts::WaveDeadline() const {
  return std::max(scene_.settings.wave_deadline, std::min(kStepsPerWave * scene_.step_times.P99(), kWaveDeadlineMax));
}

void Rollouts::StageWanted(LayerId layer, const LayerRollout& rollout, std::vector<SlotIdx>& staged) {
  const algos::Shape& shape = scene_.slots.shape();
  const auto slots = scene_.slots.layer(layer);
  for (int r = 0; r < shape.num_ranks; ++r) {
    const size_t first = shape.SlotAt(RankId(r), 0).idx(), end = first + static_cast<size_t>(shape.slots_per_rank);
    const auto wanted = std::span(rollout.target.expert_of_slot).subspan(first, end - first);
    for (size_t s = first; s < end; ++s) {
      const SlotIdx slot(static_cast<int32_t>(s));
      if (!slots[s].spare() || std::ranges::count(staged, slot) > 0) continue;
      long have = 0;
      for (size_t other = first; other < end; ++other) {
        const Slot& held = slots[other];
        const bool added = std::ranges::count(staged, SlotIdx(static_cast<int32_t>(other))) > 0;
        if (held.use == SlotUse::kWriting ? held.incoming == slots[s].expert
                                          : (held.use == SlotUse::kLive || added) && held.expert == slots[s].expert) {
          ++have;
        }
      }
      if (std::ranges::count(wanted, slots[s].expert) <= have) continue;
      scene_.slots.StageAdd(layer, slot);
      staged.push_back(slot);
    }
  }
}

void Rollouts::Finish(LayerId layer, const LayerRollout& rollout, absl::Status status) {
  if (!status.ok() && rollout.in_wave) ReturnRetired(layer, rollout.wave);
  reports_.push_back(ReportOf(status.ok() ? Report::Kind::kLayerDone : Report::Kind::kLayerFailed, layer,
                              rollout.operation_id, std::string(status.message())));
  done_.push_back(layer);
}

// ---- Orders

void Rollouts::SendOrders(absl::Time now, uint64_t view_number, Effects& effects) {
  view_number_ = view_number;
  for (auto& [layer, rollout] : layers_) {
    if (!rollout.in_wave) continue;
    for (WaveMove& move : rollout.wave.moves) {
      if (move.state == WaveMove::State::kWaiting) TryOrder(layer, rollout, move, now, view_number, effects);
    }
  }
}

void Rollouts::TryOrder(LayerId layer, LayerRollout& rollout, WaveMove& move, absl::Time now, uint64_t view_number,
                        Effects& effects) {
  const Slot& slot = scene_.slots.at(layer, move.plan.slot);
  if (slot.use == SlotUse::kLive || slot.use == SlotUse::kCondemned) {
    move.state = WaveMove::State::kEnded;  // its retirement was refused, or the slot is of no use any more
    return;
  }
  if (slot.use == SlotUse::kWriting || scene_.orders.IsRead(layer, move.plan.slot, now)) return;
  if (scene_.members.FirstNotQuiesced(slot.since, view_number).has_value()) return;
  MoveOrders::Request request{layer, move.plan.slot, move.plan.expert, move.plan.sources, RankId()};
  const auto avoid = rollout.avoid_source.find(move.plan.slot);
  if (avoid != rollout.avoid_source.end()) request.avoid_source = avoid->second;
  const absl::Status sent = scene_.orders.Send(request, scene_.settings, scene_.members, scene_.slots, now, effects);
  if (sent.ok()) {
    move.state = WaveMove::State::kOrdered;
    rollout.wave.ordered = std::min(rollout.wave.ordered, now);
    return;
  }
  move.state = WaveMove::State::kEnded;
  reports_.push_back(ReportOf(Report::Kind::kMoveFailed, layer, rollout.operation_id, std::string(sent.message())));
}

void Rollouts::OnMoveEnded(const MoveEnd& end) {
  Report report = ReportOf(end.verified ? Report::Kind::kMoveVerified : Report::Kind::kMoveFailed, end.layer, {});
  report.bytes = end.bytes;
  report.num_corrupt = end.num_corrupt;
  report.text = end.text;
  const auto found = layers_.find(end.layer);
  if (found != layers_.end()) {
    LayerRollout& rollout = found->second;
    report.operation_id = rollout.operation_id;
    if (end.verified) {
      rollout.avoid_source.erase(end.slot);
    } else if (end.source.valid()) {
      rollout.avoid_source[end.slot] = end.source;
    }
    for (WaveMove& move : rollout.wave.moves) {
      if (move.plan.slot != end.slot || move.state != WaveMove::State::kOrdered) continue;
      move.state = WaveMove::State::kEnded;
      rollout.wave.verified_any |= end.verified;
    }
  }
  reports_.push_back(std::move(report));
}

std::vector<Rollouts::Report> Rollouts::TakeReports() { return std::exchange(reports_, {}); }

// ---- Looking

absl::Time Rollouts::NextWakeup() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [layer, rollout] : layers_) {
    if (rollout.in_wave) {
      next = std::min(next, AllEnded(rollout.wave) ? planned_ + absl::Milliseconds(1) : rollout.wave.deadline);
    } else if (rollout.retry > planned_) {
      next = std::min(next, rollout.retry);
    }
  }
  return next;
}

bool Rollouts::moving() const {
  return std::ranges::any_of(layers_, [](const auto& entry) { return entry.second.in_wave; });
}

int Rollouts::NumActive() const {
  return static_cast<int>(std::ranges::count_if(
      layers_, [](const auto& entry) { return entry.second.in_wave || entry.second.backing_off; }));
}

Blame Rollouts::FindBlame(LayerId layer, const LayerRollout& rollout, uint64_t view_number) const {
  if (!rollout.in_wave) {
    const auto unsettled = scene_.members.FirstUnsettled(scene_.info.weights_version);
    if (unsettled.has_value()) {
      const MemberRecord& member = scene_.members.at(*unsettled);
      return {*unsettled, member.suspended ? "is suspended"
                                           : absl::StrCat("has weights version ", member.weights_version.value_or(0),
                                                          ", others ", scene_.info.weights_version)};
    }
  }
  return controller::FindBlame(layer, rollout, scene_.members, scene_.slots, view_number);
}

std::vector<WaveBlocked> Rollouts::Blocked(absl::Time now, uint64_t view_number) const {
  std::vector<WaveBlocked> blocked;
  for (const auto& [layer, rollout] : layers_) {
    const bool late = rollout.in_wave && now - rollout.wave.begun > absl::Seconds(1);
    Blame blame = FindBlame(layer, rollout, view_number);
    if (rollout.backing_off && !rollout.in_wave) {
      blocked.push_back(
          {layer, rollout.culprit, rollout.reason, rollout.backing_off_since, rollout.num_undone_by_culprit});
    } else if ((late || !rollout.in_wave) && blame.rank.valid()) {
      blocked.push_back({layer, blame.rank, std::move(blame.reason),
                         rollout.in_wave ? rollout.wave.begun : rollout.retry, rollout.num_undone_by_culprit});
    }
  }
  return blocked;
}

std::string_view Rollouts::PhaseOf(LayerId layer) const {
  const auto found = layers_.find(layer);
  if (found == layers_.end()) return "steady";
  const LayerRollout& rollout = found->second;
  if (rollout.backing_off) return "backing off";
  if (!rollout.in_wave) return "waiting";
  for (const WaveMove& move : rollout.wave.moves) {
    if (move.state == WaveMove::State::kOrdered) return "moving";
  }
  return "retiring";
}

}  // namespace evenkeel::controller
