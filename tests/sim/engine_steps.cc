// SPDX-License-Identifier: Apache-2.0
//
// The steps and tokens of EngineModel.
#include <algorithm>
#include <limits>
#include <utility>

#include "algos/base/check.h"
#include "algos/layer_map.h"
#include "tests/sim/engine_model.h"

namespace evenkeel::sim {

namespace {

constexpr absl::Duration kLagMean = absl::Milliseconds(1);
constexpr absl::Duration kComputeMean = absl::Milliseconds(2);
constexpr absl::Duration kLostPoll = absl::Milliseconds(50);  // of the mutant
constexpr absl::Duration kLossNoticed = absl::Milliseconds(500);
constexpr absl::Duration kSuspensionNoticed = absl::Milliseconds(5);
constexpr absl::Duration kWaitGivenUp = absl::Seconds(3);  // where a view is to say who is lost
constexpr double kSlowFactor = 200;
constexpr double kSlowForFactor = 500;
constexpr double kOlderBankChance = 0.3;    // of the mutant
constexpr double kLastBoundChance = 0.007;  // of the mutant: a position beyond the last bound but one

bool IsIn(const View& view, int rank) {
  return std::any_of(view.members.begin(), view.members.end(),
                     [&](const Member& member) { return member.rank.value() == rank; });
}

}  // namespace

void EngineModel::ScheduleBegin(int rank, int lane, absl::Duration delay) {
  if (At(rank).lane_scheduled[static_cast<size_t>(lane)]) return;
  At(rank).lane_scheduled[static_cast<size_t>(lane)] = true;
  const uint32_t life = At(rank).life;
  world_.queue->After(delay, [this, rank, lane, life] { BeginStep(rank, lane, life); });
}

bool EngineModel::MayBegin(int rank_idx, int lane) {
  const Rank& rank = At(rank_idx);
  if (!options_.lockstep || options_.steps_around_changes_only)
    return rank.open_of_lane[static_cast<size_t>(lane)] < options_.steps_in_flight;
  if (rank.open_of_lane[static_cast<size_t>(lane)] > 0) return false;
  int slowest = std::numeric_limits<int>::max();
  for (const Rank& other : ranks_) {
    if (other.region != nullptr && other.region->in_set) slowest = std::min(slowest, other.rounds_ended);
  }
  return rank.rounds_ended <= slowest;
}

void EngineModel::BeginStep(int rank_idx, int lane, uint32_t life) {
  Rank& rank = At(rank_idx);
  if (rank.life != life || rank.region == nullptr) return;
  if (Deferred(rank_idx, [this, rank_idx, lane, life] { BeginStep(rank_idx, lane, life); })) return;
  rank.lane_scheduled[static_cast<size_t>(lane)] = false;
  if (!rank.region->in_set && !rank.alone) return;  // it is no member: begin_step refuses it
  if (rank.region->suspended()) return;
  if (!MayBegin(rank_idx, lane)) {
    rank.lane_waits[static_cast<size_t>(lane)] = true;
    ++num_waiting_;
    return;
  }
  RegionModel* const region = rank.region;
  Refresh(region);
  if (options_.mutant == Mutant::kLostWordUnread) GiveUpOnLost(*region);
  const bool older =
      options_.mutant == Mutant::kOlderBankTaken && region->previous != nullptr && rng_.Chance(kOlderBankChance);
  const uint32_t step = OpenStep(rank_idx, lane, older ? region->previous : region->maps);
  world_.queue->After(Exponential(kLagMean), [this, step] { SendTokens(step); });
  if (options_.steps_around_changes_only || options_.lockstep) return;
  const bool idle = rng_.Chance(options_.idle_chance);
  ScheduleBegin(rank_idx, lane, Exponential(idle ? options_.idle_mean : options_.step_mean));
}

uint32_t EngineModel::OpenStep(int rank_idx, int lane, std::shared_ptr<const agent::Maps> maps) {
  uint32_t place = static_cast<uint32_t>(steps_.size());
  if (steps_free_.empty()) {
    steps_.emplace_back();
  } else {
    place = steps_free_.back();
    steps_free_.pop_back();
  }
  RegionModel* const region = At(rank_idx).region;
  const Began began = {maps->epoch, region->view.number};
  steps_[place] = {.rank = rank_idx,
                   .lane = lane,
                   .serial = ++num_serials_,
                   .began = began,
                   .open = true,
                   .held = region->in_set,
                   .opened = world_.queue->now(),
                   .region = region};
  if (region->in_set) world_.maps->Hold(group_, maps);
  steps_[place].maps = std::move(maps);
  region->Begin(began);
  ++region->num_steps;
  ++At(rank_idx).open_of_lane[static_cast<size_t>(lane)];
  ++num_steps_;
  return place;
}

void EngineModel::SendTokens(uint32_t step_idx) {
  steps_[step_idx].sent = true;
  if (steps_[step_idx].open) {
    for (int i = 0; i < options_.tokens_per_step; ++i) SendToken(step_idx);
    if (!calm_ && rng_.Chance(options_.faults.step_aborted)) AbortLater(step_idx, options_.step_mean);
    const Step& step = steps_[step_idx];
    const bool all_back = step.outstanding == 0 && !step.lost;
    if (all_back || options_.mutant == Mutant::kStepEndsWhenSent) CloseStep(step_idx);
  }
  FreeIfDone(step_idx);
}

void EngineModel::SendToken(uint32_t step_idx) {
  Step& step = steps_[step_idx];
  RegionModel* const region = At(step.rank).region;
  const LayerId layer(static_cast<int>(rng_.Below(static_cast<uint64_t>(options_.num_layers))));
  const ExpertId expert = load_.Pick(layer, rng_);
  const algos::LayerMap& map = step.maps->layers[layer.idx()];
  const uint32_t position = static_cast<uint32_t>(rng_.Next());
  const uint64_t weight = 1 + rng_.Below(1000);
  const SlotIdx slot = Route(*region, map, layer, expert, position);
  if (!slot.valid()) {
    if (options_.waits_for_lost) return WaitForLost(step_idx, layer, expert);
    region->num_unrouted += weight;
    return;
  }
  const algos::Shape& shape = region->info().shape;
  const Rank& target = At(shape.RankOf(slot).value());
  if (region->info().count_place == CountPlace::kRouter) {
    region->tokens_of_slot[layer.idx() * static_cast<size_t>(shape.num_slots()) + slot.idx()] += weight;
    world_.load->Computed(*region, layer, expert, weight);
  }
  ++step.outstanding;
  ++num_tokens_;
  uint32_t place = static_cast<uint32_t>(tokens_.size());
  if (tokens_free_.empty()) {
    tokens_.emplace_back();
  } else {
    place = tokens_free_.back();
    tokens_free_.pop_back();
  }
  tokens_[place] = {.step = step_idx,
                    .layer = layer,
                    .expert = expert,
                    .slot = slot,
                    .target = shape.RankOf(slot).value(),
                    .target_life = target.life,
                    .weight = weight};
  world_.queue->After(TravelTime(), [this, place] { Arrive(place); });
}

SlotIdx EngineModel::Route(const RegionModel& region, const algos::LayerMap& map, LayerId layer, ExpertId expert,
                           uint32_t position) {
  const auto slots = map.slots_of(expert);
  if (slots.empty()) return SlotIdx();
  const algos::Shape& shape = region.info().shape;
  const auto bounds = map.bounds.begin() + map.offsets[expert.idx()];
  const auto replica = std::lower_bound(bounds, bounds + static_cast<int64_t>(slots.size()), position) - bounds;
  SlotIdx slot = slots[static_cast<size_t>(replica)];
  if (options_.mutant == Mutant::kRetiredKeptInTables && region.previous != nullptr) {
    for (SlotIdx old : region.previous->layers[layer.idx()].slots_of(expert)) {
      if (std::find(slots.begin(), slots.end(), old) == slots.end() && rng_.Chance(kLastBoundChance)) slot = old;
    }
  }
  const auto is_lost = [&](SlotIdx one) {
    return region.view.number > 0 && !IsIn(region.view, shape.RankOf(one).value());
  };
  if (!is_lost(slot) || options_.mutant == Mutant::kLostWordUnread) return slot;
  const auto other = std::find_if_not(slots.begin(), slots.end(), is_lost);
  return other == slots.end() ? SlotIdx() : *other;
}

void EngineModel::WaitForLost(uint32_t step_idx, LayerId layer, ExpertId expert) {
  Step& step = steps_[step_idx];
  step.lost = true;
  if (options_.mutant != Mutant::kWaitsInStep) return AbortLater(step_idx, kLostPoll);
  world_.queue->After(kLostPoll, [this, step_idx, serial = step.serial, layer, expert] {
    const Step& waiting = steps_[step_idx];
    if (waiting.serial != serial || !waiting.open) return;
    const bool restored = !At(waiting.rank).region->maps->layers[layer.idx()].slots_of(expert).empty();
    if (restored) return Abort(step_idx, serial);
    WaitForLost(step_idx, layer, expert);
  });
}

void EngineModel::Arrive(uint32_t token_idx) {
  Token& token = tokens_[token_idx];
  const Step& step = steps_[token.step];
  const Rank& target = At(token.target);
  if (target.region == nullptr || target.life != token.target_life) return Lose(token_idx);
  if (!target.region->in_set && !target.alone) return Lose(token_idx);
  if (options_.bracketed && !Accepts(*target.region, *step.region)) return Lose(token_idx);  // serve_begin refuses it
  if (step.maps->view_number < target.region->joined_view) return Lose(token_idx);  // meant for another incarnation
  if (target.region->suspended()) return Lose(token_idx);                           // to be tried again
  if (Deferred(token.target, [this, token_idx] { Arrive(token_idx); })) return;
  token.served_in = target.region;
  ++target.region->num_computing;
  if (options_.bracketed) {
    token.served = {target.region->maps->epoch, target.region->view.number};
    target.region->BeginServing(token.served);
  }
  if (!step.aborted) world_.maps->Compute(*target.region, token.layer, token.slot, token.expert, "start");
  const absl::Time now = world_.queue->now();
  const double factor = At(step.rank).slow_for_until > now ? kSlowForFactor : target.slow_until > now ? kSlowFactor : 1;
  world_.queue->After(Exponential(kComputeMean) * factor, [this, token_idx] { Finish(token_idx); });
}

void EngineModel::Finish(uint32_t token_idx) {
  const Token& token = tokens_[token_idx];
  const Step& step = steps_[token.step];
  RegionModel* const region = At(token.target).region;
  if (region == nullptr || region != token.served_in) return Lose(token_idx);  // its brackets ended with it
  if (Deferred(token.target, [this, token_idx] { Finish(token_idx); })) return;
  --region->num_computing;
  const bool excluded = At(token.target).life != token.target_life;  // since: the work ends, its answer is thrown away
  if (!step.aborted && !excluded) {
    world_.maps->Compute(*region, token.layer, token.slot, token.expert, "end");
    // What a damaged slot computes after its agent has freed it counts for nobody: a later agent cannot tell for whom.
    const bool freed = !region->slots[region->At(token.layer, token.slot)].expert.valid();
    if (region->info().count_place == CountPlace::kAfterDispatch && !freed) {
      region->tokens_of_slot[region->At(token.layer, token.slot)] += token.weight;
      world_.load->Computed(*region, token.layer, token.expert, token.weight);
    }
  }
  if (options_.bracketed) {
    region->EndServing(token.served);
    if (token.served.view_number < region->view.number) world_.changed(token.target);
  }
  if (excluded) return Lose(token_idx);
  world_.queue->After(TravelTime(), [this, token_idx] { Return(token_idx); });
}

void EngineModel::Return(uint32_t token_idx) {
  const uint32_t step_idx = tokens_[token_idx].step;
  Step& step = steps_[step_idx];
  if (step.open && Deferred(step.rank, [this, token_idx] { Return(token_idx); })) return;
  tokens_free_.push_back(token_idx);
  tokens_[token_idx].live = false;
  --step.outstanding;
  if (step.open && step.sent && step.outstanding == 0 && !step.lost) CloseStep(step_idx);
  FreeIfDone(step_idx);
}

void EngineModel::Lose(uint32_t token_idx) {
  Token& token = tokens_[token_idx];
  const uint32_t step_idx = token.step;
  Step& step = steps_[step_idx];
  tokens_free_.push_back(token_idx);
  token.live = false;
  --step.outstanding;
  step.lost = true;
  step.lost_to |= uint64_t{1} << token.target;
  const RegionModel* const target = At(token.target).region;
  const bool is_suspended = target != nullptr && target->suspended();
  const bool waits = options_.losses && IsIn(step.region->view, token.target);
  AbortLater(step_idx, is_suspended ? kSuspensionNoticed : waits ? kWaitGivenUp : kLossNoticed);
  FreeIfDone(step_idx);
}

void EngineModel::AbortLater(uint32_t step_idx, absl::Duration mean) {
  const uint32_t serial = steps_[step_idx].serial;
  world_.queue->After(Exponential(mean), [this, step_idx, serial] { Abort(step_idx, serial); });
}

void EngineModel::Abort(uint32_t step_idx, uint32_t serial) {
  Step& step = steps_[step_idx];
  if (step.serial != serial || !step.open) return;
  if (Deferred(step.rank, [this, step_idx, serial] { Abort(step_idx, serial); })) return;
  step.aborted = true;
  CloseStep(step_idx);
  FreeIfDone(step_idx);
}

void EngineModel::CloseStep(uint32_t step_idx) {
  Step& step = steps_[step_idx];
  if (!step.open) return;
  step.open = false;
  Rank& rank = At(step.rank);
  rank.region->End(step.began);
  if (step.held) world_.maps->Release(group_, step.began.epoch);
  --rank.open_of_lane[static_cast<size_t>(step.lane)];
  ++rank.rounds_ended;
  const bool held_back =
      step.began.epoch < rank.region->maps->epoch || step.began.view_number < rank.region->view.number;
  if (held_back) world_.changed(step.rank);
  if (options_.lockstep && !options_.steps_around_changes_only) {
    ScheduleBegin(step.rank, step.lane, Exponential(options_.step_mean / 4));
  }
  WakeWaiting();
}

void EngineModel::WakeWaiting() {
  for (int r = 0; r < options_.num_ranks && num_waiting_ > 0; ++r) {
    Rank& rank = At(r);
    for (int lane = 0; lane < options_.num_lanes && rank.region != nullptr; ++lane) {
      if (!rank.lane_waits[static_cast<size_t>(lane)] || !MayBegin(r, lane)) continue;
      rank.lane_waits[static_cast<size_t>(lane)] = false;
      --num_waiting_;
      ScheduleBegin(r, lane, Exponential(absl::Milliseconds(1)));
    }
  }
}

void EngineModel::FreeIfDone(uint32_t step_idx) {
  Step& step = steps_[step_idx];
  if (step.open || !step.sent || step.outstanding > 0 || step.serial == 0) return;
  step.serial = 0;
  step.maps = nullptr;
  steps_free_.push_back(step_idx);
}

}  // namespace evenkeel::sim
