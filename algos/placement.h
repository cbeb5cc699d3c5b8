// SPDX-License-Identifier: Apache-2.0
//
// Placement: which expert each slot of one layer holds, and its inverse.
//
// A plain value. Slots are rank-major (see ids.h); a slot may be blank (kNoExpert).
//
// Errors:    Validate names the first slot or expert that is wrong.
#pragma once

#include <span>
#include <vector>

#include "absl/status/status.h"

#include "algos/base/ids.h"

namespace evenkeel::algos {

// Sizes of one layer of a group; equal for all its layers.
struct Shape {
  int num_experts = 0;
  int num_ranks = 0;
  int slots_per_rank = 0;

  int num_slots() const { return num_ranks * slots_per_rank; }
  // Slots beyond one for each expert; negative where not every expert fits.
  int num_redundant() const { return num_slots() - num_experts; }
  RankId RankOf(SlotIdx slot) const { return RankId(slot.value() / slots_per_rank); }
  int LocalSlot(SlotIdx slot) const { return slot.value() % slots_per_rank; }
  SlotIdx SlotAt(RankId rank, int local_slot) const { return SlotIdx(rank.value() * slots_per_rank + local_slot); }

  friend bool operator==(const Shape&, const Shape&) = default;
};

// Every count positive and every expert with room for one slot at least.
absl::Status Validate(const Shape& shape);

struct Placement {
  std::vector<ExpertId> expert_of_slot;  // [num_slots], kNoExpert where blank

  friend bool operator==(const Placement&, const Placement&) = default;
};

// The slots of each expert, ascending: slots_of(e) = slots[offsets[e] .. offsets[e + 1]).
struct Replicas {
  std::vector<int32_t> offsets;  // [num_experts + 1]
  std::vector<SlotIdx> slots;

  int num_replicas(ExpertId expert) const { return offsets[expert.idx() + 1] - offsets[expert.idx()]; }
  std::span<const SlotIdx> slots_of(ExpertId expert) const {
    return std::span(slots).subspan(static_cast<size_t>(offsets[expert.idx()]),
                                    static_cast<size_t>(num_replicas(expert)));
  }
};

// Requires: every expert id of `placement` below num_experts.
Replicas Invert(const Placement& placement, int num_experts);

// Right length, known experts, and every expert in at least one slot.
absl::Status Validate(const Placement& placement, const Shape& shape);

// The placement that every engine, agent and controller computes alike before any map was published
// (protocol, rule 4): rank r holds experts floor(r * E / R) and the following ones, modulo E, in its slots.
// With E divisible by R and no redundancy it is the linear map. R is `world`: ranks from there on hold nothing; 0: all
// of shape. Requires: Validate(shape) is OK, world <= shape.num_ranks.
Placement DefaultPlacement(const Shape& shape, int world = 0);

}  // namespace evenkeel::algos
