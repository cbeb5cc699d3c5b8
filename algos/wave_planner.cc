// SPDX-License-Identifier: Apache-2.0
//
// Why planning ends. Call an expert *unplaced* while no replica of it is where the target wants one (or on its
// way there), and let A be their number, W the number of wants: experts that ranks still lack.
//
// A direct move serves a want; it drops surplus replicas only, so no expert becomes unplaced by it: A does not
// grow and W falls by one. If no direct move is possible and nothing is under way, then every rank with wants
// has no free slot and holds in each surplus slot the last replica of its expert. That expert, z, is unplaced,
// so some rank r wants it, and r in turn has a surplus slot v with a last replica of another expert y. (If
// some expert has several replicas, all of them are placed, else a surplus one could be dropped.) Copying y
// into spare room therefore costs at most one want, the placed replica that was there, and leaves A as it is,
// since that expert has another placed replica. Now y has two replicas and z may be written to v: a direct
// move that places an unplaced expert. Such moves are planned before all others, and where only a limit stops
// one, its claim to drop v is kept; so A falls before spare room is made again. A is never negative: spare
// room is made finitely often, and in between W falls.
#include "algos/wave_planner.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"
#include "algos/base/status_macros.h"

namespace evenkeel::algos {

namespace {

// More would never be tried.
constexpr size_t kSourcesMax = 4;
// Spare room is made for one in so many wants at a time: each costs up to two further moves.
constexpr int kWantsPerSpareRoom = 16;

}  // namespace

absl::StatusOr<Wave> WavePlanner::Next(const MoveState& state, const Placement& target, const MoveLimits& limits) {
  EVENKEEL_RETURN_IF_ERROR(Begin(state, target, limits));
  PlanWants(/*unplaced_only=*/true);
  PlanWants(/*unplaced_only=*/false);
  RetireBlanks();
  if (wave_.empty() && !has_busy_ && !must_wait_ && !wants_.empty()) EVENKEEL_RETURN_IF_ERROR(MakeSpareRoom());
  return Finish();
}

absl::Status WavePlanner::Begin(const MoveState& state, const Placement& target, const MoveLimits& limits) {
  const size_t num_slots = static_cast<size_t>(state.shape.num_slots());
  const size_t num_ranks = static_cast<size_t>(state.shape.num_ranks);
  const auto fits = [](size_t size, size_t wanted) { return size == 0 || size == wanted; };
  if (state.use.size() != num_slots || state.expert_of_slot.size() != num_slots ||
      target.expert_of_slot.size() != num_slots || !fits(state.readers.size(), num_slots) ||
      !fits(state.load_of_slot.size(), num_slots) || !fits(state.moves_into_rank.size(), num_ranks) ||
      !fits(state.reads_from_rank.size(), num_ranks) || !fits(limits.node_of_rank.size(), num_ranks)) {
    return absl::InvalidArgumentError(
        absl::StrCat("plan moves for ", num_slots, " slots on ", num_ranks, " ranks: lengths do not fit"));
  }
  if (limits.moves_per_rank_max < 1 || limits.copies_per_source_max < 1 || limits.reads_per_rank_max < 1 ||
      limits.num_moves_max < 1) {
    return absl::InvalidArgumentError("plan moves: limits must be 1 at least");
  }
  state_ = &state;
  target_ = &target;
  limits_ = &limits;
  wave_ = Wave();
  must_wait_ = false;
  num_moves_left_ = limits.num_moves_max;
  if (limits.expert_bytes > 0) {
    const uint64_t affordable = std::max<uint64_t>(1, limits.bytes_max / limits.expert_bytes);
    num_moves_left_ = static_cast<int>(std::min<uint64_t>(affordable, static_cast<uint64_t>(num_moves_left_)));
  }
  EVENKEEL_RETURN_IF_ERROR(ReadSlots());
  ListReplicas();
  wants_.clear();
  num_placed_.assign(num_live_.size(), 0);
  num_wanted_.assign(num_live_.size(), 0);
  num_rank_wants_.assign(num_ranks, 0);
  is_full_.assign(num_ranks, 0);
  for (int r = 0; r < state.shape.num_ranks; ++r) EVENKEEL_RETURN_IF_ERROR(MatchRank(RankId(r)));
  return CheckExperts();
}

absl::Status WavePlanner::ReadSlots() {
  const MoveState& state = *state_;
  const size_t num_slots = state.use.size(), num_ranks = static_cast<size_t>(state.shape.num_ranks);
  num_live_.assign(static_cast<size_t>(state.shape.num_experts), 0);
  for (auto* flags : {&is_kept_, &is_taken_, &is_dropped_}) flags->assign(num_slots, 0);
  if (state.readers.empty()) {
    num_reads_.assign(num_slots, 0);
  } else {
    num_reads_.assign(state.readers.begin(), state.readers.end());
  }
  num_reads_of_rank_.assign(num_ranks, 0);
  std::copy(state.reads_from_rank.begin(), state.reads_from_rank.end(), num_reads_of_rank_.begin());
  num_moves_into_rank_.assign(num_ranks, 0);
  std::copy(state.moves_into_rank.begin(), state.moves_into_rank.end(), num_moves_into_rank_.begin());
  has_busy_ = false;
  for (size_t s = 0; s < num_slots; ++s) {
    const SlotUse use = state.use[s];
    const ExpertId expert = state.expert_of_slot[s];
    if (use == SlotUse::kFree || use == SlotUse::kUnavailable) continue;
    if (expert.value() >= state.shape.num_experts || (use == SlotUse::kLive && !expert.valid())) {
      return absl::InvalidArgumentError(
          absl::StrCat("plan moves: slot ", s, " holds expert ", expert.value(), " of ", state.shape.num_experts));
    }
    if (use == SlotUse::kLive) {
      ++num_live_[expert.idx()];
      continue;
    }
    has_busy_ = true;
    if (state.moves_into_rank.empty() && expert.valid()) {
      ++num_moves_into_rank_[state.shape.RankOf(SlotIdx(static_cast<int32_t>(s))).idx()];
    }
  }
  return absl::OkStatus();
}

void WavePlanner::ListReplicas() {
  first_replica_.resize(num_live_.size());
  int32_t sum = 0;
  for (size_t e = 0; e < num_live_.size(); ++e) {
    first_replica_[e] = sum;
    sum += num_live_[e];
  }
  replicas_.resize(static_cast<size_t>(sum));
  num_left_.assign(num_live_.size(), 0);
  for (size_t s = 0; s < state_->use.size(); ++s) {
    if (state_->use[s] != SlotUse::kLive) continue;
    const uint32_t e = state_->expert_of_slot[s].idx();
    replicas_[static_cast<size_t>(first_replica_[e] + num_left_[e]++)] = SlotIdx(static_cast<int32_t>(s));
  }
}

absl::Status WavePlanner::MatchRank(RankId rank) {
  const size_t first = state_->shape.SlotAt(rank, 0).idx();
  const size_t num_slots = static_cast<size_t>(state_->shape.slots_per_rank);
  const std::span use = std::span(state_->use).subspan(first, num_slots);
  const std::span held = std::span(state_->expert_of_slot).subspan(first, num_slots);
  const std::span wanted = std::span(target_->expert_of_slot).subspan(first, num_slots);
  int num_wanted = 0, num_usable = 0;
  for (size_t i = 0; i < num_slots; ++i) {
    if (use[i] != SlotUse::kUnavailable) ++num_usable;
    if (!wanted[i].valid()) continue;
    if (wanted[i].value() >= state_->shape.num_experts) {
      return absl::InvalidArgumentError(absl::StrCat("plan moves: target wants expert ", wanted[i].value(), " of ",
                                                     state_->shape.num_experts, " on rank ", rank.value()));
    }
    ++num_wanted;
    ++num_wanted_[wanted[i].idx()];
  }
  if (num_wanted > num_usable) {
    return absl::FailedPreconditionError(absl::StrCat("target wants ", num_wanted, " experts on rank ", rank.value(),
                                                      ", which has ", num_usable, " usable slots"));
  }
  for (SlotUse pass : {SlotUse::kLive, SlotUse::kBusy}) {
    if (pass == SlotUse::kBusy && !has_busy_) continue;
    for (size_t i = 0; i < num_slots; ++i) {
      if (use[i] != pass || !held[i].valid() || num_wanted_[held[i].idx()] == 0) continue;
      --num_wanted_[held[i].idx()];
      ++num_placed_[held[i].idx()];
      --num_wanted;
      is_kept_[first + i] = 1;
    }
  }
  for (size_t i = 0; i < num_slots && num_wanted > 0; ++i) {
    if (!wanted[i].valid() || num_wanted_[wanted[i].idx()] == 0) continue;
    --num_wanted_[wanted[i].idx()];
    --num_wanted;
    wants_.push_back({rank, wanted[i]});
    ++num_rank_wants_[rank.idx()];
  }
  return absl::OkStatus();
}

absl::Status WavePlanner::CheckExperts() {
  for (const Want& want : wants_) num_wanted_[want.expert.idx()] = 1;
  for (size_t e = 0; e < num_placed_.size(); ++e) {
    // A target may leave out an expert that nobody could be given.
    if (num_live_[e] > 0 && num_placed_[e] + num_wanted_[e] == 0) {
      return absl::InvalidArgumentError(absl::StrCat("plan moves: target has no slot for expert ", e));
    }
  }
  return absl::OkStatus();
}

// Unplaced experts first: the proof at the top rests on it.
void WavePlanner::PlanWants(bool unplaced_only) {
  for (Want& want : wants_) {
    if (want.planned || is_full_[want.rank.idx()] != 0) continue;
    if (unplaced_only && num_placed_[want.expert.idx()] > 0) continue;
    if (Plan(want) == Outcome::kMustWait) must_wait_ = true;
  }
}

WavePlanner::Outcome WavePlanner::Plan(Want& want) {
  // Nothing live to copy: the expert is on its way to another slot, or lost (Finish says so).
  if (num_live_[want.expert.idx()] == 0) return has_busy_ ? Outcome::kMustWait : Outcome::kNoRoom;
  bool must_wait = false;
  const SlotIdx slot = FindRoomAt(want.rank, must_wait);
  if (!slot.valid()) {
    is_full_[want.rank.idx()] = 1;  // and stays so: planning takes room, it gives none
    return must_wait ? Outcome::kMustWait : Outcome::kNoRoom;
  }
  const bool is_live = state_->use[slot.idx()] == SlotUse::kLive;
  const SlotIdx source = BestSource(want.expert, want.rank);
  if (num_moves_left_ == 0 || !MayReceive(want.rank) || !source.valid()) {
    if (is_live && num_placed_[want.expert.idx()] == 0) {  // keep the claim
      is_taken_[slot.idx()] = 1;
      --num_left_[state_->expert_of_slot[slot.idx()].idx()];
    }
    return Outcome::kMustWait;
  }
  if (is_live) Drop(slot);
  AddMove(slot, want.expert, source);
  want.planned = true;
  --num_rank_wants_[want.rank.idx()];
  ++num_placed_[want.expert.idx()];
  return Outcome::kPlanned;
}

// A slot of `rank` that may be written now: free, else the least loaded surplus replica that may be dropped.
SlotIdx WavePlanner::FindRoomAt(RankId rank, bool& must_wait) const {
  SlotIdx best;
  const int32_t first = state_->shape.SlotAt(rank, 0).value();
  for (int32_t s = first; s < first + state_->shape.slots_per_rank; ++s) {
    const SlotIdx slot(s);
    if (is_kept_[slot.idx()] != 0 || is_taken_[slot.idx()] != 0) continue;
    if (state_->use[slot.idx()] == SlotUse::kFree) return slot;
    if (state_->use[slot.idx()] != SlotUse::kLive || num_left_[state_->expert_of_slot[slot.idx()].idx()] < 2) continue;
    if (num_reads_[slot.idx()] > 0) {
      must_wait = true;
      continue;
    }
    if (state_->load_of_slot.empty()) return slot;
    if (!best.valid() || LoadOf(slot) < LoadOf(best)) best = slot;
  }
  return best;
}

// Another replica of its expert stays live, and nobody reads this one.
bool WavePlanner::MayDrop(SlotIdx slot) const {
  return num_left_[state_->expert_of_slot[slot.idx()].idx()] >= 2 && num_reads_[slot.idx()] == 0 &&
         is_taken_[slot.idx()] == 0;
}

bool WavePlanner::MayReceive(RankId rank) const {
  return num_moves_into_rank_[rank.idx()] < limits_->moves_per_rank_max;
}

SlotIdx WavePlanner::BestSource(ExpertId expert, RankId to) const {
  SlotIdx best;
  std::tuple<int, int32_t, int, SlotIdx> best_key;
  for (SlotIdx slot : ReplicasOf(expert)) {
    const uint32_t rank = state_->shape.RankOf(slot).idx();
    if (is_dropped_[slot.idx()] != 0 || is_taken_[slot.idx()] != 0 ||
        num_reads_[slot.idx()] >= limits_->copies_per_source_max ||
        num_reads_of_rank_[rank] >= limits_->reads_per_rank_max) {
      continue;
    }
    const std::tuple<int, int32_t, int, SlotIdx> key(Distance(state_->shape.RankOf(slot), to), num_reads_of_rank_[rank],
                                                     is_kept_[slot.idx()] != 0 ? 0 : 1, slot);
    if (!best.valid() || key < best_key) {
      best = slot;
      best_key = key;
    }
  }
  return best;
}

int WavePlanner::Distance(RankId from, RankId to) const {
  if (from == to) return 0;
  const std::vector<int>& node = limits_->node_of_rank;
  return node.empty() || node[from.idx()] == node[to.idx()] ? 1 : 2;
}

void WavePlanner::AddMove(SlotIdx slot, ExpertId expert, SlotIdx source) {
  is_taken_[slot.idx()] = 1;
  ++num_reads_[source.idx()];
  ++num_reads_of_rank_[state_->shape.RankOf(source).idx()];
  ++num_moves_into_rank_[state_->shape.RankOf(slot).idx()];
  --num_moves_left_;
  PlannedMove& move = wave_.moves.emplace_back(PlannedMove{slot, expert, {}});
  move.sources.reserve(std::min<size_t>(kSourcesMax, static_cast<size_t>(num_live_[expert.idx()])));
  move.sources.push_back(source);
}

void WavePlanner::Drop(SlotIdx slot) {
  is_dropped_[slot.idx()] = 1;
  is_taken_[slot.idx()] = 1;
  --num_left_[state_->expert_of_slot[slot.idx()].idx()];
  wave_.retire.push_back(slot);
}

// What a rank holds beyond its target leaves the maps once the rank wants nothing more.
void WavePlanner::RetireBlanks() {
  for (int r = 0; r < state_->shape.num_ranks; ++r) {
    if (num_rank_wants_[static_cast<size_t>(r)] > 0) continue;
    for (int i = 0; i < state_->shape.slots_per_rank; ++i) {
      const SlotIdx slot = state_->shape.SlotAt(RankId(r), i);
      if (state_->use[slot.idx()] != SlotUse::kLive || is_kept_[slot.idx()] != 0 || is_taken_[slot.idx()] != 0)
        continue;
      if (MayDrop(slot)) {
        Drop(slot);
      } else {
        must_wait_ = must_wait_ || num_reads_[slot.idx()] > 0;
      }
    }
  }
}

// No want can be served directly: frees surplus slots of ranks that want unplaced experts, by copying what is
// in them elsewhere.
absl::Status WavePlanner::MakeSpareRoom() {
  int num_rooms = std::max(1, static_cast<int>(wants_.size()) / kWantsPerSpareRoom);
  RankId last;
  for (const Want& want : wants_) {
    if (num_rooms == 0 || want.rank == last || num_live_[want.expert.idx()] == 0 ||
        num_placed_[want.expert.idx()] > 0) {
      continue;
    }
    last = want.rank;
    SlotIdx blocking;
    for (int i = 0; i < state_->shape.slots_per_rank; ++i) {
      const SlotIdx slot = state_->shape.SlotAt(want.rank, i);
      if (state_->use[slot.idx()] != SlotUse::kLive || is_kept_[slot.idx()] != 0 || is_dropped_[slot.idx()] != 0)
        continue;
      if (!blocking.valid() || LoadOf(slot) < LoadOf(blocking)) blocking = slot;
    }
    EVENKEEL_CHECK(blocking.valid());
    const SlotIdx room = FindSpareRoom(want.rank, must_wait_);
    if (!room.valid() || num_moves_left_ == 0) break;
    const ExpertId expert = state_->expert_of_slot[blocking.idx()];
    const SlotIdx source = BestSource(expert, state_->shape.RankOf(room));
    if (!source.valid()) {
      must_wait_ = true;
      continue;
    }
    if (state_->use[room.idx()] == SlotUse::kLive) Drop(room);
    AddMove(room, expert, source);
    ++wave_.num_into_spare_room;
    --num_rooms;
  }
  if (!wave_.empty() || must_wait_) return absl::OkStatus();
  for (const Want& want : wants_) {
    if (num_live_[want.expert.idx()] > 0) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("expert ", want.expert.value(), " has no live replica to copy to rank ", want.rank.value()));
  }
  return absl::FailedPreconditionError(
      absl::StrCat(wants_.size(), " moves wait for one another: no slot is free and no expert has a second replica"));
}

// Free slots first, then replicas on the same node, the least loaded first.
SlotIdx WavePlanner::FindSpareRoom(RankId near, bool& must_wait) const {
  SlotIdx best;
  std::tuple<bool, int, uint64_t> best_key;
  for (int s = 0; s < state_->shape.num_slots(); ++s) {
    const SlotIdx slot(s);
    const bool is_free = state_->use[slot.idx()] == SlotUse::kFree;
    if (is_taken_[slot.idx()] != 0 || (!is_free && state_->use[slot.idx()] != SlotUse::kLive)) continue;
    if (!is_free && num_left_[state_->expert_of_slot[slot.idx()].idx()] < 2) continue;
    const RankId rank = state_->shape.RankOf(slot);
    if (!MayReceive(rank) || (!is_free && !MayDrop(slot))) {
      must_wait = true;
      continue;
    }
    const std::tuple<bool, int, uint64_t> key(!is_free, Distance(rank, near), LoadOf(slot));
    if (!best.valid() || key < best_key) {
      best = slot;
      best_key = key;
    }
  }
  return best;
}

Wave WavePlanner::Finish() {
  for (PlannedMove& move : wave_.moves) AddSources(move);
  std::sort(wave_.retire.begin(), wave_.retire.end());
  std::sort(wave_.moves.begin(), wave_.moves.end(),
            [](const PlannedMove& a, const PlannedMove& b) { return a.slot < b.slot; });
  return std::move(wave_);
}

// Behind the reserved source the next best of those that stay live.
void WavePlanner::AddSources(PlannedMove& move) {
  const RankId to = state_->shape.RankOf(move.slot);
  const auto key = [&](SlotIdx slot) {
    const RankId rank = state_->shape.RankOf(slot);
    return std::tuple(Distance(rank, to), num_reads_of_rank_[rank.idx()], slot);
  };
  others_.clear();
  for (SlotIdx slot : ReplicasOf(move.expert)) {
    if (slot != move.sources.front() && is_dropped_[slot.idx()] == 0) others_.push_back(slot);
  }
  std::sort(others_.begin(), others_.end(), [&](SlotIdx a, SlotIdx b) { return key(a) < key(b); });
  if (others_.size() > kSourcesMax - 1) others_.resize(kSourcesMax - 1);
  move.sources.insert(move.sources.end(), others_.begin(), others_.end());
}

}  // namespace evenkeel::algos
