// SPDX-License-Identifier: Apache-2.0
//
// Ids: small integers that cannot be mistaken for one another.
//
// All are 32 bits, dense from 0, and default to "none" (-1). A slot index counts the slots of one layer
// over all ranks, rank-major: slot = rank * slots_per_rank + local slot.
#pragma once

#include <compare>
#include <cstdint>

namespace evenkeel {

template <typename Tag>
class Id {
 public:
  constexpr Id() = default;
  constexpr explicit Id(int32_t value) : value_(value) {}

  constexpr int32_t value() const { return value_; }
  // The value as an index into a vector. Requires: valid().
  constexpr uint32_t idx() const { return static_cast<uint32_t>(value_); }
  constexpr bool valid() const { return value_ >= 0; }

  friend constexpr auto operator<=>(const Id&, const Id&) = default;

 private:
  int32_t value_ = -1;
};

using RankId = Id<struct RankTag>;
using LayerId = Id<struct LayerTag>;    // MoE layers only, from 0
using ExpertId = Id<struct ExpertTag>;  // logical expert of a layer
using SlotIdx = Id<struct SlotTag>;     // slot of a layer, over all ranks

inline constexpr ExpertId kNoExpert{};

}  // namespace evenkeel
