// SPDX-License-Identifier: Apache-2.0
#include "controller/core/rollout/slot_table.h"

#include <algorithm>
#include <utility>

#include "algos/base/check.h"

namespace evenkeel::controller {

namespace {

// `since` of a slot whose loss is not published yet: nobody has quiesced there.
constexpr Epoch kNever{UINT32_MAX, UINT32_MAX};

}  // namespace

SlotTable::SlotTable(const algos::Shape& shape, int num_layers, int mismatches_until_condemned)
    : shape_(shape),
      num_layers_(num_layers),
      mismatches_until_condemned_(mismatches_until_condemned),
      slots_(static_cast<size_t>(num_layers) * static_cast<size_t>(shape.num_slots())),
      barred_(static_cast<size_t>(shape.num_ranks), false),
      num_live_(static_cast<size_t>(num_layers) * static_cast<size_t>(shape.num_experts), 0),
      expected_(num_live_.size(), 0),
      fixed_(num_live_.size(), false),
      renewed_(barred_.size(), false) {}

bool SlotTable::AnyRenewed() const { return std::ranges::count(renewed_, true) > 0; }

std::span<const Slot> SlotTable::layer(LayerId layer) const {
  return std::span(slots_).subspan(IndexOf(layer, SlotIdx(0)), static_cast<size_t>(shape_.num_slots()));
}

bool SlotTable::Matches(LayerId layer, ExpertId expert, uint64_t fingerprint) const {
  if (!expert.valid() || expert.value() >= shape_.num_experts) return false;
  const size_t at = ExpertIndex(layer, expert);
  return !fixed_[at] || expected_[at] == fingerprint;
}

// ---- What agents say

void SlotTable::Reset(RankId rank, Epoch since) {
  for (int l = 0; l < num_layers_; ++l) {
    for (int local = 0; local < shape_.slots_per_rank; ++local) {
      Slot& slot = Mutable(LayerId(l), shape_.SlotAt(rank, local));
      EVENKEEL_CHECK(slot.use != SlotUse::kLive);
      slot = Slot();
      slot.since = since;
    }
  }
}

SlotTable::Outcome SlotTable::Confirm(LayerId layer, SlotIdx slot, const SlotRecord& record) {
  switch (at(layer, slot).use) {
    case SlotUse::kLive:
      return ConfirmLive(layer, slot, record);
    case SlotUse::kWriting:
      return ConfirmWriting(layer, slot, record);
    default:
      return ConfirmIdle(layer, slot, record);
  }
}

SlotTable::Outcome SlotTable::ConfirmLive(LayerId layer, SlotIdx at, const SlotRecord& record) {
  Slot& slot = Mutable(layer, at);
  slot.generation = std::max(slot.generation, record.generation);
  const bool whole = record.state == SlotState::kVerified && record.expert == slot.expert;
  if (whole && (MayDiffer(at) || Matches(layer, record.expert, record.fingerprint))) {
    slot.fingerprint = record.fingerprint;
    slot.content_generation = record.generation;
    return Outcome::kNothing;
  }
  TakeOut(layer, at);
  ConfirmIdle(layer, at, record);
  return Outcome::kLost;
}

SlotTable::Outcome SlotTable::ConfirmWriting(LayerId layer, SlotIdx at, const SlotRecord& record) {
  Slot& slot = Mutable(layer, at);
  const bool orphan = slot.move_id == 0;
  if (record.generation < slot.generation) return orphan ? Outcome::kOrphan : Outcome::kUnresolved;
  if (record.generation == slot.generation && record.state == SlotState::kWriting) {
    return orphan ? Outcome::kOrphan : Outcome::kNothing;
  }
  if (record.generation == slot.generation && record.state == SlotState::kVerified && record.expert == slot.incoming) {
    return Finish(layer, at, record.generation, record.fingerprint);
  }
  slot.Clear(SlotUse::kFree);
  const Outcome outcome = ConfirmIdle(layer, at, record);
  return outcome == Outcome::kOrphan ? outcome : Outcome::kFailed;
}

SlotTable::Outcome SlotTable::ConfirmIdle(LayerId layer, SlotIdx at, const SlotRecord& record) {
  Slot& slot = Mutable(layer, at);
  slot.generation = std::max(slot.generation, record.generation);
  if (slot.use == SlotUse::kCondemned) return Outcome::kNothing;
  const bool same = slot.spare() && slot.expert == record.expert && slot.fingerprint == record.fingerprint;
  switch (record.state) {
    case SlotState::kVerified:
      if (same) return Outcome::kNothing;
      slot.Clear(SlotUse::kFree);
      if (!MayDiffer(at) && !Matches(layer, record.expert, record.fingerprint)) return Outcome::kUpdated;
      slot.use = SlotUse::kVerified;
      slot.expert = record.expert;
      slot.fingerprint = record.fingerprint;
      slot.content_generation = record.generation;
      return Outcome::kUpdated;
    case SlotState::kWriting:
      slot.Clear(SlotUse::kWriting);
      slot.incoming = record.expert;
      return Outcome::kOrphan;
    case SlotState::kCondemned:
      slot.Clear(SlotUse::kCondemned);
      return Outcome::kUpdated;
    case SlotState::kFree:
      break;
  }
  if (slot.use == SlotUse::kFree) return Outcome::kNothing;
  slot.Clear(SlotUse::kFree);
  return Outcome::kUpdated;
}

SlotTable::Outcome SlotTable::Finish(LayerId layer, SlotIdx at, uint64_t generation, uint64_t fingerprint) {
  Slot& slot = Mutable(layer, at);
  if (slot.use != SlotUse::kWriting || slot.generation != generation) return Outcome::kNothing;
  const ExpertId expert = slot.incoming;
  const bool ordered = slot.move_id != 0;
  if (!Matches(layer, expert, fingerprint)) return Fail(layer, at, generation, {.mismatch = true});
  slot.Clear(SlotUse::kVerified);
  slot.expert = expert;
  slot.fingerprint = fingerprint;
  slot.content_generation = generation;
  slot.num_mismatches = 0;
  return ordered ? Outcome::kVerified : Outcome::kUpdated;
}

SlotTable::Outcome SlotTable::Fail(LayerId layer, SlotIdx at, uint64_t generation, Failure failure) {
  Slot& slot = Mutable(layer, at);
  if (slot.use != SlotUse::kWriting || slot.generation != generation) return Outcome::kNothing;
  const bool ordered = slot.move_id != 0;
  if (failure.content_kept && slot.expert.valid()) {
    slot.use = SlotUse::kVerified;
    slot.incoming = kNoExpert;
    slot.move_id = 0;
  } else {
    slot.Clear(SlotUse::kFree);
  }
  if (failure.mismatch && ++slot.num_mismatches >= mismatches_until_condemned_) {
    slot.Clear(SlotUse::kCondemned);
  }
  return ordered ? Outcome::kFailed : Outcome::kUpdated;
}

SlotTable::Outcome SlotTable::Lose(LayerId layer, SlotIdx at, uint64_t generation) {
  Slot& slot = Mutable(layer, at);
  if (!slot.holds_content() || generation < slot.content_generation) return Outcome::kNothing;
  slot.generation = std::max(slot.generation, generation);
  if (slot.use == SlotUse::kLive) return TakeOut(layer, at);
  slot.Clear(SlotUse::kFree);
  return Outcome::kUpdated;
}

SlotTable::Outcome SlotTable::TakeOut(LayerId layer, SlotIdx at) {
  Slot& slot = Mutable(layer, at);
  const ExpertId expert = slot.expert;
  const int32_t num_left = --num_live_[ExpertIndex(layer, expert)];
  slot.Clear(SlotUse::kFree);
  slot.since = kNever;
  lost_.push_back({layer, at});
  if (num_left == 0) StageSpares(layer, expert);
  return Outcome::kLost;
}

void SlotTable::StageSpares(LayerId layer, ExpertId expert) {
  for (int s = 0; s < shape_.num_slots(); ++s) {
    const Slot& slot = at(layer, SlotIdx(s));
    if (slot.spare() && slot.expert == expert) StageAdd(layer, SlotIdx(s));
  }
}

void SlotTable::StageSparesOfDead() {
  for (int l = 0; l < num_layers_; ++l) {
    for (int e = 0; e < shape_.num_experts; ++e) {
      if (NumLive(LayerId(l), ExpertId(e)) == 0) StageSpares(LayerId(l), ExpertId(e));
    }
  }
}

void SlotTable::SetBarred(RankId rank, bool barred) {
  barred_[rank.idx()] = barred;
  if (!barred) StageSparesOfDead();
}

void SlotTable::Drop(RankId rank) {
  for (int l = 0; l < num_layers_; ++l) {
    const LayerId layer(l);
    std::vector<ExpertId> gone;
    for (int local = 0; local < shape_.slots_per_rank; ++local) {
      const SlotIdx at = shape_.SlotAt(rank, local);
      Slot& slot = Mutable(layer, at);
      const Epoch since = slot.use == SlotUse::kLive ? kNever : slot.since;
      if (slot.use == SlotUse::kLive) {
        if (--num_live_[ExpertIndex(layer, slot.expert)] == 0) gone.push_back(slot.expert);
        lost_.push_back({layer, at});
      }
      slot = Slot();
      slot.since = since;
    }
    for (ExpertId expert : gone) StageSpares(layer, expert);
  }
}

// ---- Orders

uint64_t SlotTable::Order(LayerId layer, SlotIdx at, ExpertId incoming, uint64_t move_id) {
  Slot& slot = Mutable(layer, at);
  EVENKEEL_CHECK(slot.spare() || slot.use == SlotUse::kFree);
  slot.use = SlotUse::kWriting;
  slot.incoming = incoming;
  slot.move_id = move_id;
  return ++slot.generation;
}

// ---- Maps

void SlotTable::NameAllConfirmed(Epoch first) {
  for (int l = 0; l < num_layers_; ++l) {
    const LayerId layer(l);
    for (int s = 0; s < shape_.num_slots(); ++s) {
      Slot& slot = Mutable(layer, SlotIdx(s));
      slot.since = first;
      if (slot.spare()) StageAdd(layer, SlotIdx(s));
    }
    changed_.push_back(layer);
  }
}

std::vector<LayerId> SlotTable::Commit(Epoch epoch) {
  std::vector<LayerId> changed = std::move(changed_);
  for (const Place& place : lost_) {
    Mutable(place.layer, place.slot).since = epoch;
    changed.push_back(place.layer);
  }
  for (const Place& place : adds_) {
    Slot& slot = Mutable(place.layer, place.slot);
    if (!MayBeAdded(place)) continue;
    slot.use = SlotUse::kLive;
    slot.since = Epoch();
    const size_t expert = ExpertIndex(place.layer, slot.expert);
    ++num_live_[expert];
    if (!fixed_[expert]) {
      // No rank held it when the group formed: what comes first is what all others must equal.
      expected_[expert] = slot.fingerprint;
      fixed_[expert] = true;
    }
    changed.push_back(place.layer);
  }
  for (const Place& place : retires_) {
    Slot& slot = Mutable(place.layer, place.slot);
    if (slot.use != SlotUse::kLive) continue;
    int32_t& live = num_live_[ExpertIndex(place.layer, slot.expert)];
    if (live <= 1) continue;
    --live;
    slot.use = SlotUse::kRetired;
    slot.since = epoch;
    changed.push_back(place.layer);
  }
  changed_.clear();
  lost_.clear();
  adds_.clear();
  retires_.clear();
  std::ranges::sort(changed);
  changed.erase(std::unique(changed.begin(), changed.end()), changed.end());
  return changed;
}

algos::Placement SlotTable::Live(LayerId layer) const {
  algos::Placement placement;
  placement.expert_of_slot.reserve(static_cast<size_t>(shape_.num_slots()));
  for (const Slot& slot : this->layer(layer)) {
    placement.expert_of_slot.push_back(slot.use == SlotUse::kLive ? slot.expert : kNoExpert);
  }
  return placement;
}

algos::Placement SlotTable::LiveAndComing(LayerId layer) const {
  algos::Placement placement = Live(layer);
  for (const Place& place : adds_) {
    const Slot& slot = at(layer, place.slot);
    if (place.layer == layer && MayBeAdded(place)) placement.expert_of_slot[place.slot.idx()] = slot.expert;
  }
  return placement;
}

bool SlotTable::MayBeAdded(const Place& place) const {
  const Slot& slot = at(place.layer, place.slot);
  const size_t rank = shape_.RankOf(place.slot).idx();
  return slot.spare() && !barred_[rank] && !renewed_[rank] && Matches(place.layer, slot.expert, slot.fingerprint);
}

int SlotTable::NumLive(LayerId layer, ExpertId expert) const { return num_live_[ExpertIndex(layer, expert)]; }

int SlotTable::NumCondemned(LayerId layer) const {
  return static_cast<int>(
      std::ranges::count_if(this->layer(layer), [](const Slot& slot) { return slot.use == SlotUse::kCondemned; }));
}

}  // namespace evenkeel::controller
