// SPDX-License-Identifier: Apache-2.0
#include "agent/stores/held_experts.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"

namespace evenkeel::agent {

StoreIdentity IdentityOf(const engine::AgentRegion& region) {
  const algos::Shape& shape = region.group().shape;
  std::vector<std::vector<uint64_t>> tensor_bytes;
  for (int l = 0; l < region.group().num_layers; ++l) {
    std::vector<uint64_t>& sizes = tensor_bytes.emplace_back();
    for (const auto& bytes : region.SlotBytes(LayerId(l), shape.SlotAt(region.member().rank, 0))) {
      sizes.push_back(bytes.size());
    }
  }
  return IdentityOf(region.group(), std::move(tensor_bytes));
}

std::vector<HeldExpert> HeldExpertsOf(const engine::AgentRegion& region) {
  const algos::Shape& shape = region.group().shape;
  std::vector<HeldExpert> held;
  for (int l = 0; l < region.group().num_layers; ++l) {
    for (int s = 0; s < shape.slots_per_rank; ++s) {
      const SlotIdx slot = shape.SlotAt(region.member().rank, s);
      const SlotRecord record = region.ReadSlot(LayerId(l), slot);
      if (record.state != SlotState::kVerified || !record.expert.valid()) continue;
      held.push_back({LayerId(l), record.expert, slot, record.generation, record.fingerprint});
    }
  }
  const auto key = [](const HeldExpert& one) { return std::pair(one.layer, one.expert); };
  std::stable_sort(held.begin(), held.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
  held.erase(std::unique(held.begin(), held.end(), [&](const auto& a, const auto& b) { return key(a) == key(b); }),
             held.end());
  return held;
}

absl::Status CopyHeld(const engine::AgentRegion& region, const HeldExpert& held, const Pace& pace, const Sink& sink) {
  size_t tensor = 0;
  for (const std::span<const std::byte> bytes : region.SlotBytes(held.layer, held.slot)) {
    for (uint64_t offset = 0; offset < bytes.size(); offset += kPacedPiece) {
      const auto piece = bytes.subspan(offset, std::min<uint64_t>(kPacedPiece, bytes.size() - offset));
      if (!pace(piece.size())) return absl::CancelledError("told to end");
      EVENKEEL_RETURN_IF_ERROR(sink(tensor, offset, piece));
    }
    ++tensor;
  }
  const SlotRecord record = region.ReadSlot(held.layer, held.slot);
  if (record.state == SlotState::kVerified && record.generation == held.generation) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat("copy layer ", held.layer.value(), " slot ", held.slot.value(),
                                         ": it was given other content meanwhile"));
}

}  // namespace evenkeel::agent
