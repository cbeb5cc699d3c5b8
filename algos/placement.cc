// SPDX-License-Identifier: Apache-2.0
#include "algos/placement.h"

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"

namespace evenkeel::algos {

absl::Status Validate(const Shape& shape) {
  if (shape.num_experts <= 0 || shape.num_ranks <= 0 || shape.slots_per_rank <= 0) {
    return absl::InvalidArgumentError(absl::StrCat("shape of ", shape.num_experts, " experts on ", shape.num_ranks,
                                                   " ranks x ", shape.slots_per_rank,
                                                   " slots: every count must be positive"));
  }
  if (shape.num_redundant() < 0) {
    return absl::InvalidArgumentError(absl::StrCat("shape of ", shape.num_experts, " experts on ", shape.num_ranks,
                                                   " ranks x ", shape.slots_per_rank,
                                                   " slots: ", -shape.num_redundant(), " experts have no slot"));
  }
  return absl::OkStatus();
}

Replicas Invert(const Placement& placement, int num_experts) {
  Replicas replicas;
  replicas.offsets.assign(static_cast<size_t>(num_experts) + 1, 0);
  for (ExpertId expert : placement.expert_of_slot) {
    if (expert.valid()) ++replicas.offsets[expert.idx() + 1];
  }
  for (size_t e = 1; e < replicas.offsets.size(); ++e) replicas.offsets[e] += replicas.offsets[e - 1];
  replicas.slots.resize(static_cast<size_t>(replicas.offsets.back()));
  std::vector<int32_t> next(replicas.offsets.begin(), replicas.offsets.end() - 1);
  for (size_t s = 0; s < placement.expert_of_slot.size(); ++s) {
    const ExpertId expert = placement.expert_of_slot[s];
    if (expert.valid()) {
      replicas.slots[static_cast<size_t>(next[expert.idx()]++)] = SlotIdx(static_cast<int32_t>(s));
    }
  }
  return replicas;
}

absl::Status Validate(const Placement& placement, const Shape& shape) {
  if (placement.expert_of_slot.size() != static_cast<size_t>(shape.num_slots())) {
    return absl::InvalidArgumentError(
        absl::StrCat("placement of ", placement.expert_of_slot.size(), " slots: the group has ", shape.num_slots()));
  }
  std::vector<bool> placed(static_cast<size_t>(shape.num_experts), false);
  for (size_t s = 0; s < placement.expert_of_slot.size(); ++s) {
    const ExpertId expert = placement.expert_of_slot[s];
    if (expert == kNoExpert) continue;
    if (!expert.valid() || expert.value() >= shape.num_experts) {
      return absl::InvalidArgumentError(absl::StrCat("placement: slot ", s, " holds expert ", expert.value(),
                                                     "; experts are 0 to ", shape.num_experts - 1));
    }
    placed[expert.idx()] = true;
  }
  for (size_t e = 0; e < placed.size(); ++e) {
    if (!placed[e]) return absl::InvalidArgumentError(absl::StrCat("placement: expert ", e, " has no slot"));
  }
  return absl::OkStatus();
}

Placement DefaultPlacement(const Shape& shape, int world) {
  EVENKEEL_CHECK(Validate(shape).ok() && world >= 0 && world <= shape.num_ranks);
  const int num_ranks = world == 0 ? shape.num_ranks : world;
  Placement placement;
  placement.expert_of_slot.reserve(static_cast<size_t>(shape.num_slots()));
  for (int64_t rank = 0; rank < num_ranks; ++rank) {
    const int64_t first = rank * shape.num_experts / num_ranks;
    for (int64_t local = 0; local < shape.slots_per_rank; ++local) {
      placement.expert_of_slot.push_back(ExpertId(static_cast<int32_t>((first + local) % shape.num_experts)));
    }
  }
  placement.expert_of_slot.resize(static_cast<size_t>(shape.num_slots()), kNoExpert);
  return placement;
}

}  // namespace evenkeel::algos
