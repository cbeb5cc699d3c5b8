// SPDX-License-Identifier: Apache-2.0
#include "controller/core/ranks/restores.h"

#include <algorithm>
#include <optional>
#include <tuple>

namespace evenkeel::controller {

namespace {

bool AnyStore(const Membership& members) {
  return std::ranges::any_of(members.members(), [](const MemberRecord& record) {
    return record.in_view() && record.attached() && std::ranges::any_of(record.endpoints, &Endpoint::is_store);
  });
}

}  // namespace

// ---- What is lost

void Restores::FindDead() {
  dead_.clear();
  for (int l = 0; l < scene_.info.num_layers; ++l) {
    for (int e = 0; e < scene_.info.shape.num_experts; ++e) {
      if (scene_.slots.NumLive(LayerId(l), ExpertId(e)) == 0 && !IsComing(LayerId(l), ExpertId(e))) {
        dead_.emplace_back(LayerId(l), ExpertId(e));
      }
    }
  }
}

// Such slots enter the maps with the next publish.
bool Restores::IsComing(LayerId layer, ExpertId expert) const {
  const auto slots = scene_.slots.layer(layer);
  for (size_t s = 0; s < slots.size(); ++s) {
    if (!slots[s].spare() || slots[s].expert != expert) continue;
    const RankId rank = scene_.slots.shape().RankOf(SlotIdx(static_cast<int32_t>(s)));
    const Standing standing = scene_.members.at(rank).standing;
    if (standing == Standing::kServing || standing == Standing::kDraining) return true;
  }
  return false;
}

bool Restores::IsUsable(LayerId layer, SlotIdx slot) const {
  const MemberRecord& record = scene_.members.at(scene_.slots.shape().RankOf(slot));
  return record.standing == Standing::kServing && record.attached() &&
         scene_.slots.at(layer, slot).use != SlotUse::kCondemned;
}

// What was retired for nothing returns to the maps.
void Restores::ReturnSlot(const Key& key, const Restore& restore) {
  if (!restore.slot.valid()) return;
  const Slot& slot = scene_.slots.at(key.first, restore.slot);
  if (slot.spare()) scene_.slots.StageAdd(key.first, restore.slot);
}

void Restores::BackOff(Restore& restore, absl::Time now) {
  restore.ordered = false;
  restore.retry = now + std::min(kRetryMax, kRetryMin * (1 << std::min(restore.num_failed, 6)));
  ++restore.num_failed;
  ++num_failed_;
}

void Restores::EndRestores(absl::Time now) {
  const bool others_wait = std::ranges::any_of(dead_, [&](const Key& key) {
    const auto known = restores_.find(key);
    return known == restores_.end() || !known->second.slot.valid();
  });
  absl::erase_if(restores_, [&](auto& entry) {
    const Key& key = entry.first;
    Restore& restore = entry.second;
    if (!std::ranges::binary_search(dead_, key)) {
      num_restored_ += 1;
      ReturnSlot(key, restore);
      return true;
    }
    if (!restore.slot.valid()) {
      if (sources_changed_) restore.retry = now;
      return false;
    }
    const Slot& slot = scene_.slots.at(key.first, restore.slot);
    if (slot.use == SlotUse::kWriting) return false;
    if (slot.spare() && slot.expert == key.second) return false;  // verified; the next publish names it
    // Its rank is gone, the slot is of no use any more, or its retirement was refused.
    if (!IsUsable(key.first, restore.slot) || slot.use == SlotUse::kLive) return true;
    if (restore.ordered) {
      BackOff(restore, now);
      if (others_wait) {
        // What no store holds must not keep a slot from what one does.
        ReturnSlot(key, restore);
        restore.slot = SlotIdx();
      }
    }
    if (sources_changed_) restore.retry = now;
    return false;
  });
  sources_changed_ = false;
}

// ---- Slots to restore into

SlotIdx Restores::ChooseSlot(LayerId layer, const std::vector<uint64_t>& loads) const {
  const algos::Shape& shape = scene_.slots.shape();
  std::vector<int> chosen_on(static_cast<size_t>(shape.num_ranks), 0);  // over all layers
  std::vector<int> given_up(static_cast<size_t>(shape.num_experts), 0);
  std::vector<bool> taken(static_cast<size_t>(shape.num_slots()), false);
  for (const auto& [key, restore] : restores_) {
    if (!restore.slot.valid()) continue;
    ++chosen_on[shape.RankOf(restore.slot).idx()];
    if (key.first != layer) continue;
    taken[restore.slot.idx()] = true;
    const Slot& slot = scene_.slots.at(layer, restore.slot);
    if (slot.use == SlotUse::kLive) ++given_up[slot.expert.idx()];  // its retirement is staged
  }
  std::vector<uint64_t> rank_loads(static_cast<size_t>(shape.num_ranks), 0);
  for (size_t s = 0; s < loads.size(); ++s)
    rank_loads[shape.RankOf(SlotIdx(static_cast<int32_t>(s))).idx()] += loads[s];
  // Blank before spare content before a live replica; those of the expert with most replicas first, then few tokens.
  using Harm = std::tuple<int, int, int, uint64_t, SlotIdx>;
  std::optional<Harm> least;
  for (int s = 0; s < shape.num_slots(); ++s) {
    const SlotIdx at(s);
    if (taken[at.idx()] || !IsUsable(layer, at)) continue;
    const Slot& slot = scene_.slots.at(layer, at);
    const RankId rank = shape.RankOf(at);
    if (slot.use == SlotUse::kWriting) continue;
    Harm harm(slot.use == SlotUse::kFree ? 0 : 1, 0, chosen_on[rank.idx()], rank_loads[rank.idx()], at);
    if (slot.spare() && scene_.slots.NumLive(layer, slot.expert) == 0) continue;  // about to return (rule 26)
    if (slot.use == SlotUse::kLive) {
      const int left = scene_.slots.NumLive(layer, slot.expert) - given_up[slot.expert.idx()];
      if (left < 2) continue;
      harm = Harm(2, -left, chosen_on[rank.idx()], loads.empty() ? 0 : loads[at.idx()], at);
    }
    if (!least.has_value() || harm < *least) least = harm;
  }
  return least.has_value() ? std::get<SlotIdx>(*least) : SlotIdx();
}

void Restores::Plan(absl::Time now, const SlotLoads& loads) {
  if (!looks_) return;
  FindDead();
  EndRestores(now);
  looks_ = !dead_.empty() || !restores_.empty();
  if (dead_.empty() || !AnyStore(scene_.members)) return;
  if (scene_.members.FirstUnsettled(scene_.info.weights_version).has_value()) return;
  LayerId layer;
  std::vector<uint64_t> slot_loads;
  for (const Key& key : dead_) {
    const auto known = restores_.find(key);
    if (known != restores_.end() && (known->second.slot.valid() || known->second.retry > now)) continue;
    if (!scene_.slots.Expected(key.first, key.second).has_value()) continue;
    if (key.first != layer) slot_loads = loads(layer = key.first);
    const SlotIdx slot = ChooseSlot(layer, slot_loads);
    if (!slot.valid()) continue;  // below the capacity floor
    num_begun_ += known == restores_.end();
    restores_[key].slot = slot;
    if (scene_.slots.at(layer, slot).use == SlotUse::kLive) scene_.slots.StageRetire(layer, slot);
  }
}

// ---- Orders

int Restores::NumOrdersInto(RankId rank) const {
  return static_cast<int>(std::ranges::count_if(
      scene_.orders.open(), [&](const auto& entry) { return scene_.slots.shape().RankOf(entry.second.slot) == rank; }));
}

void Restores::SendOrders(absl::Time now, uint64_t view_number, Effects& effects) {
  sent_ = now;
  if (scene_.members.FirstUnsettled(scene_.info.weights_version).has_value()) return;
  for (auto& [key, restore] : restores_) {
    const auto& [layer, expert] = key;
    if (!restore.slot.valid()) continue;
    const Slot& slot = scene_.slots.at(layer, restore.slot);
    if (restore.ordered || restore.retry > now || !(slot.spare() || slot.use == SlotUse::kFree)) continue;
    if (slot.spare() && slot.expert == expert) continue;
    if (!IsUsable(layer, restore.slot) || scene_.orders.IsRead(layer, restore.slot, now)) continue;
    if (scene_.members.FirstNotQuiesced(slot.since, view_number).has_value()) continue;
    if (NumOrdersInto(scene_.slots.shape().RankOf(restore.slot)) >= scene_.settings.moves_per_rank_max) continue;
    const MoveOrders::Request request{layer, restore.slot, expert, {}, RankId()};
    if (scene_.orders.Send(request, scene_.settings, scene_.members, scene_.slots, now, effects).ok()) {
      restore.ordered = true;
    } else {
      BackOff(restore, now);
    }
  }
}

absl::Time Restores::NextWakeup() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [key, restore] : restores_) {
    if (!restore.ordered && restore.retry > sent_) next = std::min(next, restore.retry);
  }
  return next;
}

}  // namespace evenkeel::controller
