// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/region_model.h"

#include <algorithm>

#include "agent/core/map_update.h"
#include "algos/base/check.h"
#include "algos/base/hash.h"
#include "algos/placement.h"

namespace evenkeel::sim {

namespace {

void Drop(absl::btree_map<Began, int>& open, Began began) {
  const auto it = open.find(began);
  EVENKEEL_CHECK(it != open.end());
  if (--it->second == 0) open.erase(it);
}

}  // namespace

uint64_t GoodContent(uint64_t weights_version, LayerId layer, ExpertId expert) {
  return MixBits(weights_version ^ MixBits(static_cast<uint64_t>(layer.idx()) << 32 | expert.idx())) | 1;
}

RegionModel::RegionModel(uint32_t id, int group_idx, const GroupInfo& group, Member member, bool joining)
    : maps(agent::DefaultMaps(group)),
      in_set(!joining),
      id_(id),
      group_idx_(group_idx),
      info_(group),
      member_(member),
      joining_(joining) {
  const algos::Placement placement = algos::DefaultPlacement(group.shape, group.world);
  const int per_rank = group.shape.slots_per_rank;
  for (int layer = 0; layer < group.num_layers; ++layer) {
    for (int local = 0; local < per_rank; ++local) {
      const ExpertId expert = placement.expert_of_slot[group.shape.SlotAt(member.rank, local).idx()];
      if (joining || !expert.valid()) {
        slots.emplace_back();
        contents.push_back(0);
        continue;
      }
      const uint64_t content = GoodContent(group.weights_version, LayerId(layer), expert);
      slots.push_back({.state = SlotState::kVerified, .expert = expert, .generation = 1, .fingerprint = content});
      contents.push_back(content);
    }
  }
  derived = contents;
  num_writes.assign(slots.size(), 0);
  being_written.assign(slots.size(), 0);
  rotten.assign(slots.size(), false);
  refresh_wanted.assign(slots.size(), false);
  const size_t counted = group.count_place == CountPlace::kRouter
                             ? static_cast<size_t>(group.num_layers * group.shape.num_slots())
                             : slots.size();
  tokens_of_slot.assign(counted, 0);
}

size_t RegionModel::At(LayerId layer, SlotIdx slot) const {
  EVENKEEL_CHECK(info_.shape.RankOf(slot) == member_.rank);
  return layer.idx() * static_cast<size_t>(info_.shape.slots_per_rank) +
         static_cast<size_t>(info_.shape.LocalSlot(slot));
}

agent::RegionState RegionModel::Read() const {
  return {.group = info_,
          .member = member_,
          .joining = joining_,
          .suspension = suspended() ? suspension : 0,
          .endpoints = {{.transport = "local", .host = "sim", .address = "region"}},
          .term_obeyed = term_obeyed,
          .maps = maps,
          .view = view,
          .quiesced_epoch = Quiesced(true, true).epoch,
          .slots = slots,
          .tokens_of_slot = tokens_of_slot};
}

void RegionModel::End(Began began) { Drop(open_, began); }

void RegionModel::EndServing(Began began) { Drop(serving_, began); }

Quiescence RegionModel::Quiesced(bool steps_count, bool serving_counts) const {
  Quiescence quiesced = {maps->epoch, view.number};
  if (steps_count && !open_.empty()) {
    quiesced.epoch = std::min(quiesced.epoch, open_.begin()->first.epoch);
    for (const auto& [began, count] : open_) quiesced.view_number = std::min(quiesced.view_number, began.view_number);
  }
  if (!serving_counts) return quiesced;
  for (const auto& [began, count] : serving_) {
    if (began.view_number >= view.number) continue;
    quiesced.epoch = std::min(quiesced.epoch, began.epoch);
    quiesced.view_number = std::min(quiesced.view_number, began.view_number);
  }
  return quiesced;
}

void RegionModel::WriteContent(LayerId layer, SlotIdx slot, uint64_t content) {
  const size_t at = At(layer, slot);
  contents[at] = content;
  rotten[at] = false;
  ++num_writes[at];
}

bool RegionModel::HoldsGood(LayerId layer, SlotIdx slot, ExpertId expert) const {
  const size_t at = At(layer, slot);
  if (rotten[at]) return true;
  const uint64_t good = GoodContent(info_.weights_version, layer, expert);
  return being_written[at] == 0 && contents[at] == good && derived[at] == good;
}

}  // namespace evenkeel::sim
