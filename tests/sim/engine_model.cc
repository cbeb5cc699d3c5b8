// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/engine_model.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/layer_map.h"

namespace evenkeel::sim {

namespace {

constexpr double kTokensPerSecond = 1e5;  // of a layer, over the whole group
constexpr absl::Duration kWaitTold = absl::Milliseconds(300);
constexpr absl::Duration kHungPoll = absl::Seconds(1);
constexpr absl::Duration kReroutedAfter = absl::Milliseconds(5);
constexpr absl::Duration kGivenUpWithin = absl::Seconds(1);

}  // namespace

EngineModel::EngineModel(const Options& options, int group, World world, uint64_t seed)
    : options_(options),
      group_(group),
      world_(std::move(world)),
      rng_(seed),
      load_({.num_layers = options.num_layers, .num_experts = options.num_experts, .sigma = options.load_sigma},
            MixBits(seed)) {
  const size_t lanes = static_cast<size_t>(options.num_lanes);
  ranks_.resize(static_cast<size_t>(options.num_ranks));
  for (Rank& rank : ranks_) {
    rank.open_of_lane.resize(lanes);
    rank.lane_waits.resize(lanes);
    rank.lane_scheduled.resize(lanes);
    rank.accrued = world_.queue->now();
  }
  DriftLater();
}

void EngineModel::DriftLater() {
  world_.queue->After(options_.drift_interval, [this] {
    if (calm_) return;
    for (const Rank& rank : ranks_) {
      if (rank.region != nullptr) Accrue(rank.region);
    }
    load_.Drift();
    DriftLater();
  });
}

absl::Duration EngineModel::Exponential(absl::Duration mean) { return -mean * std::log(1.0 - rng_.Uniform()); }

absl::Duration EngineModel::TravelTime() {
  const absl::Duration usual = absl::Microseconds(50) + Exponential(absl::Microseconds(500));
  return rng_.Chance(0.02) ? usual + Exponential(absl::Milliseconds(60)) : usual;
}

void EngineModel::Start(RegionModel* region) {
  Rank& rank = At(region->rank());
  ++rank.life;
  rank.region = region;
  rank.stalled_until = rank.slow_until = rank.slow_for_until = rank.stall_ends = absl::InfinitePast();
  rank.hung = rank.alone = false;
  rank.accrued = world_.queue->now();
  std::fill(rank.open_of_lane.begin(), rank.open_of_lane.end(), 0);
  for (size_t lane = 0; lane < rank.lane_waits.size(); ++lane) {
    if (rank.lane_waits[lane]) --num_waiting_;
    rank.lane_waits[lane] = false;
  }
  std::fill(rank.lane_scheduled.begin(), rank.lane_scheduled.end(), false);
  for (const Rank& other : ranks_) rank.rounds_ended = std::max(rank.rounds_ended, other.rounds_ended);
  if (region->in_set) Serve(region);
}

void EngineModel::Serve(RegionModel* region) {
  region->joined_view = region->view.number;
  region->in_set = true;
  world_.maps->SetRegion(group_, region->rank(), region);
  world_.maps->Hold(group_, region->maps);
  if (options_.steps_around_changes_only) return;
  for (int lane = 0; lane < options_.num_lanes; ++lane) {
    ScheduleBegin(region->rank(), lane, Exponential(options_.step_mean));
  }
}

void EngineModel::LeaveSet(int rank_idx) {
  RegionModel* const region = At(rank_idx).region;
  for (Step& step : steps_) {
    if (!step.open || step.rank != rank_idx || !std::exchange(step.held, false)) continue;
    world_.maps->Release(group_, step.began.epoch);
  }
  region->excluded = true;
  if (!std::exchange(region->in_set, false)) return;
  world_.maps->SetRegion(group_, rank_idx, nullptr);
  world_.maps->Release(group_, region->maps->epoch);
  world_.changed(rank_idx);
}

void EngineModel::Exclude(int rank_idx) {
  Rank& rank = At(rank_idx);
  LeaveSet(rank_idx);
  rank.alone = false;
  for (Step& step : steps_) {
    if (!step.open || step.rank != rank_idx) continue;
    step.open = false;
    step.aborted = true;
    rank.region->End(step.began);
    --rank.open_of_lane[static_cast<size_t>(step.lane)];
  }
  std::fill(rank.lane_scheduled.begin(), rank.lane_scheduled.end(), false);
  for (size_t lane = 0; lane < rank.lane_waits.size(); ++lane) {
    if (rank.lane_waits[lane]) --num_waiting_;
    rank.lane_waits[lane] = false;
  }
  ++rank.life;
  WakeWaiting();
}

void EngineModel::Kill(int rank_idx) {
  Exclude(rank_idx);
  At(rank_idx).region->engine_alive = false;
  world_.changed(rank_idx);
  At(rank_idx).region = nullptr;
  WakeWaiting();
}

void EngineModel::Stall(int rank, absl::Time until) {
  At(rank).stalled_until = until;
  At(rank).stall_ends = std::max(At(rank).stall_ends, until);
}

void EngineModel::Hang(int rank) { At(rank).hung = true; }

void EngineModel::Calm() {
  calm_ = true;
  for (Rank& rank : ranks_) rank.stalled_until = rank.slow_until = rank.slow_for_until = absl::InfinitePast();
}

bool EngineModel::IsStalled(int rank) const {
  const Rank& one = ranks_[static_cast<size_t>(rank)];
  return one.hung || (!calm_ && one.stalled_until > world_.queue->now());
}

bool EngineModel::Deferred(int rank, EventQueue::Action action) {
  if (!IsStalled(rank)) return false;
  const absl::Time now = world_.queue->now();
  const absl::Time until = At(rank).hung ? now + kHungPoll : At(rank).stalled_until;
  world_.queue->At(until + Exponential(absl::Microseconds(200)), std::move(action));
  return true;
}

void EngineModel::TakeMaps(RegionModel* region, std::shared_ptr<const agent::Maps> maps) {
  const bool serves = region->in_set && region->engine_alive;
  if (serves && options_.steps_around_changes_only) {
    Accrue(region);
    StepBefore(region);
  }
  if (serves) world_.maps->Hold(group_, maps);
  if (serves) world_.maps->Release(group_, region->maps->epoch);
  region->previous = std::exchange(region->maps, std::move(maps));
  // It waited for its first maps.
  if (!serves && region->engine_alive && !region->excluded && IsNamed(*region)) Serve(region);
  world_.changed(region->rank());
}

// The engine had been busy: steps under the maps so far are open, and the next ones take the new maps.
void EngineModel::StepBefore(RegionModel* region) {
  const int rank = region->rank();
  if (region->suspended()) return;
  for (int lane = 0; lane < options_.num_lanes; ++lane) {
    if (At(rank).open_of_lane[static_cast<size_t>(lane)] == 0) {
      const uint32_t step = OpenStep(rank, lane, region->maps);
      world_.queue->After(Exponential(options_.step_mean), [this, step] { SendTokens(step); });
    }
    ScheduleBegin(rank, lane, Exponential(options_.step_mean));
  }
}

bool EngineModel::IsNamed(const RegionModel& region) {
  const std::vector<Member>& members = region.view.members;
  return std::find(members.begin(), members.end(), region.member()) != members.end();
}

void EngineModel::TakeView(RegionModel* region, const View& view) {
  region->view = view;
  for (Rank& rank : ranks_) {
    if (rank.region == nullptr) continue;
    const bool named = std::find(view.members.begin(), view.members.end(), rank.region->member()) != view.members.end();
    const bool itself = rank.region == region;
    if (!itself && view.number < rank.region->joined_view) continue;  // it comes late, and knows nothing of this one
    if (named && itself && rank.alone && view.number > rank.alone_since) {
      // Nobody is left who knew of the view without it.
      rank.alone = region->excluded = false;
      Serve(region);
    } else if (!named && (rank.region->in_set || (itself && rank.alone))) {
      if (itself || !options_.bracketed) {
        Exclude(rank.region->rank());
      } else {
        LeaveSet(rank.region->rank());
        rank.alone = true;
        rank.alone_since = view.number;
      }
    }
  }
  if (options_.mutant != Mutant::kLostWordUnread) GiveUpOnLost(*region);
  CheckGivenUpLater(region, view.number);
  world_.changed(region->rank());
}

bool EngineModel::Accepts(const RegionModel& region, const RegionModel& sender) {
  if (&region == &sender) return true;
  if (region.view.number == 0) return sender.joined_view == 0;  // the world of the headers
  const std::vector<Member>& members = region.view.members;
  return std::find(members.begin(), members.end(), sender.member()) != members.end();
}

std::vector<uint32_t> EngineModel::WaitingForLost(const RegionModel& region) const {
  std::vector<uint32_t> waiting;
  if (region.view.number == 0) return waiting;
  const auto is_lost = [&](size_t rank) {
    return std::none_of(region.view.members.begin(), region.view.members.end(),
                        [&](const Member& member) { return member.rank.idx() == rank; });
  };
  std::vector<bool> waits(steps_.size(), false);
  for (const Token& token : tokens_) {
    if (token.live && is_lost(static_cast<size_t>(token.target))) waits[token.step] = true;
  }
  for (size_t i = 0; i < steps_.size(); ++i) {
    const Step& step = steps_[i];
    if (!step.open || step.region != &region) continue;
    for (size_t r = 0; r < ranks_.size(); ++r) {
      if ((step.lost_to >> r & 1) != 0 && is_lost(r)) waits[i] = true;
    }
    if (waits[i]) waiting.push_back(static_cast<uint32_t>(i));
  }
  return waiting;
}

void EngineModel::GiveUpOnLost(const RegionModel& region) {
  for (uint32_t step : WaitingForLost(region)) AbortLater(step, kReroutedAfter);
}

void EngineModel::CheckGivenUpLater(const RegionModel* region, uint64_t view_number) {
  world_.queue->After(kGivenUpWithin, [this, region, view_number] {
    const Rank& rank = At(region->rank());
    if (rank.region != region || rank.hung || region->view.number != view_number) return;
    if (rank.stall_ends + kGivenUpWithin > world_.queue->now()) return;
    if (WaitingForLost(*region).empty()) return;
    world_.trace->Violation(absl::StrCat("group ", group_, " rank ", region->rank(),
                                         ": a step still waits for a rank that view ", view_number, ", taken ",
                                         absl::FormatDuration(kGivenUpWithin), " ago, lacks"));
  });
}

EngineModel::Waits EngineModel::WaitsOf(int rank) const {
  Waits waits;
  uint64_t ranks = 0;
  const absl::Time now = world_.queue->now();
  const auto waits_long = [&](const Step& step) {
    return step.open && step.rank == rank && now - step.opened >= kWaitTold;
  };
  for (const Step& step : steps_) {
    if (step.open && step.rank == rank) waits.oldest_open = std::max(waits.oldest_open, now - step.opened);
    if (waits_long(step)) ranks |= step.lost_to;
  }
  if (IsStalled(rank)) return waits;  // it says nothing of others
  for (const Token& token : tokens_) {
    if (token.live && waits_long(steps_[token.step])) ranks |= uint64_t{1} << token.target;
  }
  for (size_t r = 0; r < ranks_.size(); ++r) {
    if ((ranks >> r & 1) != 0 && r != static_cast<size_t>(rank)) waits.for_ranks.emplace_back(static_cast<int32_t>(r));
  }
  return waits;
}

void EngineModel::WantRefresh(RegionModel* region, LayerId layer, SlotIdx slot) {
  region->refresh_wanted[region->At(layer, slot)] = true;
  if (options_.steps_around_changes_only && region->engine_alive && region->in_set) {
    ScheduleBegin(region->rank(), 0, Exponential(options_.step_mean));
  }
}

void EngineModel::Refresh(RegionModel* region) {
  bool any = false;
  for (size_t i = 0; i < region->num_slots(); ++i) {
    if (!region->refresh_wanted[i]) continue;
    region->refresh_wanted[i] = false;
    region->derived[i] = region->contents[i];
    any = true;
  }
  if (any) world_.changed(region->rank());
}

void EngineModel::Accrue(RegionModel* region) {
  if (!options_.steps_around_changes_only || !region->engine_alive || !region->in_set) return;
  Rank& rank = At(region->rank());
  const double seconds = absl::ToDoubleSeconds(world_.queue->now() - rank.accrued);
  rank.accrued = world_.queue->now();
  const algos::Shape& shape = region->info().shape;
  for (int l = 0; l < options_.num_layers; ++l) {
    const LayerId layer(l);
    const algos::LayerMap& map = region->maps->layers[layer.idx()];
    for (int local = 0; local < shape.slots_per_rank; ++local) {
      const SlotIdx slot = shape.SlotAt(RankId(region->rank()), local);
      const size_t at = region->At(layer, slot);
      const ExpertId expert = region->slots[at].expert;
      if (!expert.valid()) continue;
      const auto slots = map.slots_of(expert);
      const auto found = std::lower_bound(slots.begin(), slots.end(), slot);
      if (found == slots.end() || *found != slot) continue;
      const double units = static_cast<double>(map.ShareUnits(expert, static_cast<int>(found - slots.begin())));
      const double share = units / static_cast<double>(algos::kShareUnits) * load_.ShareOf(layer, expert);
      const uint64_t tokens = static_cast<uint64_t>(share * seconds * kTokensPerSecond);
      region->tokens_of_slot[at] += tokens;
      world_.load->Computed(*region, layer, expert, tokens);
    }
  }
}

}  // namespace evenkeel::sim
