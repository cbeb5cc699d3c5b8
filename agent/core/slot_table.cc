// SPDX-License-Identifier: Apache-2.0
#include "agent/core/slot_table.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"

namespace evenkeel::agent {

namespace {

SlotRecord FreeRecord(uint64_t generation) {
  return {.state = SlotState::kFree, .expert = kNoExpert, .generation = generation};
}

}  // namespace

SlotTable::SlotTable(const GroupInfo& group, RankId rank, std::vector<SlotRecord> records, const Maps& maps)
    : shape_(group.shape), num_layers_(group.num_layers), rank_(rank), slots_(records.size()) {
  EVENKEEL_CHECK(slots_.size() == static_cast<size_t>(num_layers_) * static_cast<size_t>(shape_.slots_per_rank));
  EVENKEEL_CHECK(maps.layers.size() == static_cast<size_t>(num_layers_));
  for (size_t i = 0; i < slots_.size(); ++i) slots_[i] = {.record = records[i], .unnamed_since = maps.epoch};
  SetNamed(maps);
}

bool SlotTable::Owns(LayerId layer, SlotIdx slot) const {
  return layer.valid() && layer.value() < num_layers_ && slot.valid() && slot.value() < shape_.num_slots() &&
         shape_.RankOf(slot) == rank_;
}

size_t SlotTable::IndexOf(LayerId layer, SlotIdx slot) const {
  return layer.idx() * static_cast<size_t>(shape_.slots_per_rank) + static_cast<size_t>(shape_.LocalSlot(slot));
}

LayerId SlotTable::LayerAt(size_t index) const { return LayerId(static_cast<int32_t>(index) / shape_.slots_per_rank); }

SlotIdx SlotTable::SlotAt(size_t index) const {
  return shape_.SlotAt(rank_, static_cast<int32_t>(index) % shape_.slots_per_rank);
}

void SlotTable::Store(LayerId layer, SlotIdx slot, const SlotRecord& record, Effects& effects) {
  Slot& entry = slots_[IndexOf(layer, slot)];
  EVENKEEL_CHECK(record.generation >= entry.record.generation);
  entry.record = record;
  entry.lost = entry.lost && record.state == SlotState::kVerified;
  effects.push_back(StoreSlot{.layer = layer, .slot = slot, .record = record});
}

bool SlotTable::HoldsContent(LayerId layer, SlotIdx slot) const {
  const Slot& entry = at(layer, slot);
  return entry.record.state == SlotState::kVerified && !entry.lost;
}

void SlotTable::FreeLeftovers(Effects& effects) {
  for (size_t i = 0; i < slots_.size(); ++i) {
    const SlotRecord& record = slots_[i].record;
    if (record.state != SlotState::kWriting) continue;
    Store(LayerAt(i), SlotAt(i), FreeRecord(record.generation), effects);
  }
}

absl::Status SlotTable::CheckNamed(LayerId layer, const algos::LayerMap& map) const {
  for (int e = 0; e < shape_.num_experts; ++e) {
    for (SlotIdx slot : map.slots_of(ExpertId(e))) {
      if (shape_.RankOf(slot) != rank_) continue;
      const Slot& entry = at(layer, slot);
      if (HoldsContent(layer, slot) && entry.record.expert == ExpertId(e) && !entry.move_open) continue;
      return absl::FailedPreconditionError(absl::StrCat("layer ", layer.value(), " slot ", slot.value(),
                                                        " is named for expert ", e, " and does not hold it verified"));
    }
  }
  return absl::OkStatus();
}

void SlotTable::SetNamed(const Maps& newest) {
  std::vector<bool> named(slots_.size(), false);
  for (int l = 0; l < num_layers_; ++l) {
    for (SlotIdx slot : newest.layers[static_cast<size_t>(l)].slots) {
      if (shape_.RankOf(slot) == rank_) named[IndexOf(LayerId(l), slot)] = true;
    }
  }
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (std::exchange(slots_[i].named, named[i]) && !named[i]) slots_[i].unnamed_since = newest.epoch;
  }
}

absl::Status SlotTable::CheckWritable(LayerId layer, SlotIdx slot, Epoch quiesced) const {
  const Slot& entry = at(layer, slot);
  if (entry.named) return absl::FailedPreconditionError(absl::StrCat("slot ", slot.value(), " is named by maps"));
  if (entry.unnamed_since > quiesced) {
    return absl::FailedPreconditionError(absl::StrCat("slot ", slot.value(), " may be in use: retired at ",
                                                      entry.unnamed_since.ToString(), ", the engine has quiesced at ",
                                                      quiesced.ToString()));
  }
  return absl::OkStatus();
}

void SlotTable::ScrubNext(Effects& effects) {
  if (scrub_awaited_) return;
  for (size_t step = 0; step < slots_.size(); ++step) {
    const size_t i = scrub_cursor_;
    scrub_cursor_ = (scrub_cursor_ + 1) % slots_.size();
    const Slot& entry = slots_[i];
    if (!entry.named || entry.lost || entry.record.state != SlotState::kVerified) continue;
    scrub_awaited_ = true;
    effects.push_back(FingerprintSlot{.layer = LayerAt(i), .slot = SlotAt(i), .generation = entry.record.generation});
    return;
  }
}

void SlotTable::TakeFingerprint(const SlotFingerprinted& answer, Effects& effects) {
  scrub_awaited_ = false;
  if (!Owns(answer.layer, answer.slot)) return;
  Slot& entry = slots_[IndexOf(answer.layer, answer.slot)];
  const SlotRecord& record = entry.record;
  if (record.state != SlotState::kVerified || record.generation != answer.generation || entry.lost) return;
  if (record.fingerprint == answer.fingerprint) return;
  entry.lost = true;
  effects.push_back(
      SendToController{SlotLost{.layer = answer.layer, .slot = answer.slot, .generation = answer.generation}});
}

void SlotTable::FreeLost(Epoch quiesced, Effects& effects) {
  for (size_t i = 0; i < slots_.size(); ++i) {
    const Slot& entry = slots_[i];
    if (!entry.lost || entry.move_open || entry.named || entry.unnamed_since > quiesced) continue;
    Store(LayerAt(i), SlotAt(i), FreeRecord(entry.record.generation), effects);
  }
}

std::vector<SlotRecord> SlotTable::Inventory() const {
  std::vector<SlotRecord> records;
  records.reserve(slots_.size());
  for (const Slot& entry : slots_) {
    records.push_back(entry.lost ? FreeRecord(entry.record.generation) : entry.record);
  }
  return records;
}

}  // namespace evenkeel::agent
