// SPDX-License-Identifier: Apache-2.0
//
// What a slot table expects of content: one fingerprint for each expert, and what becomes of replicas that disagree.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "controller/core/rollout/slot_table.h"

namespace evenkeel::controller {

std::string Describe(const FingerprintConflict& conflict) {
  const auto hex = [](uint64_t value) { return absl::StrCat(absl::Hex(value, absl::kZeroPad16)); };
  const std::string kept = conflict.rank_kept.valid()
                               ? absl::StrCat(hex(conflict.kept), " on rank ", conflict.rank_kept.value())
                               : absl::StrCat(hex(conflict.kept), " as it was fixed");
  return absl::StrCat("disagree: fingerprint ", kept, ", ", hex(conflict.other), " on rank ",
                      conflict.rank_other.value());
}

std::vector<FingerprintConflict> SlotTable::FixFingerprints() {
  std::vector<FingerprintConflict> conflicts;
  for (int l = 0; l < num_layers_; ++l) {
    const LayerId layer(l);
    std::vector<std::vector<SlotIdx>> slots_of(static_cast<size_t>(shape_.num_experts));
    for (int s = 0; s < shape_.num_slots(); ++s) {
      const Slot& slot = at(layer, SlotIdx(s));
      if (slot.holds_content()) slots_of[slot.expert.idx()].push_back(SlotIdx(s));
    }
    for (int e = 0; e < shape_.num_experts; ++e) {
      const auto& slots = slots_of[static_cast<size_t>(e)];
      if (!slots.empty()) FixFingerprint(layer, ExpertId(e), slots, conflicts);
    }
  }
  return conflicts;
}

std::vector<FingerprintConflict> SlotTable::Refix(Version version) {
  renewed_.assign(renewed_.size(), false);
  if (version == Version::kAnother) {
    fixed_.assign(fixed_.size(), false);
    conflicts_.clear();
  }
  std::vector<FingerprintConflict> conflicts = FixFingerprints();
  StageSparesOfDead();
  return conflicts;
}

void SlotTable::FixFingerprint(LayerId layer, ExpertId expert, std::span<const SlotIdx> slots,
                               std::vector<FingerprintConflict>& conflicts) {
  const size_t index = ExpertIndex(layer, expert);
  SlotIdx kept;
  long most = 0;
  for (SlotIdx slot : slots) {
    const uint64_t value = at(layer, slot).fingerprint;
    if (fixed_[index] && value != expected_[index]) continue;
    const long count =
        std::ranges::count_if(slots, [&](SlotIdx other) { return at(layer, other).fingerprint == value; });
    if (count > most) {
      most = count;
      kept = slot;
    }
  }
  if (!fixed_[index]) expected_[index] = at(layer, kept).fingerprint;
  fixed_[index] = true;
  const RankId rank_kept = kept.valid() ? shape_.RankOf(kept) : RankId();
  for (SlotIdx slot : slots) {
    const uint64_t other = at(layer, slot).fingerprint;
    if (other == expected_[index]) continue;
    conflicts.push_back({layer, expert, rank_kept, shape_.RankOf(slot), expected_[index], other});
    conflicts_.push_back(conflicts.back());
    if (at(layer, slot).use == SlotUse::kLive) {
      TakeOut(layer, slot);
    } else {
      Mutable(layer, slot).Clear(SlotUse::kFree);
    }
  }
}

const FingerprintConflict* SlotTable::FindConflict(LayerId layer, ExpertId expert) const {
  for (const FingerprintConflict& conflict : conflicts_) {
    if (conflict.layer == layer && conflict.expert == expert) return &conflict;
  }
  return nullptr;
}

std::optional<uint64_t> SlotTable::Expected(LayerId layer, ExpertId expert) const {
  const size_t index = ExpertIndex(layer, expert);
  if (!fixed_[index]) return std::nullopt;
  return expected_[index];
}

}  // namespace evenkeel::controller
