// SPDX-License-Identifier: Apache-2.0
//
// Identity: who is meant and which state of the world (docs/protocol.md, section 1).
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "algos/base/ids.h"

namespace evenkeel {

// One life of one rank: a restarted engine is another member. Incarnations are chosen at random by engines, never 0.
struct Member {
  RankId rank;
  uint64_t incarnation = 0;

  friend auto operator<=>(const Member&, const Member&) = default;
};

// Version of the maps of a group, (term of the controller's leadership, number), compared as one 64-bit value.
// {0, 0} is the default placement that all compute alike (rule 4).
struct Epoch {
  uint32_t term = 0;
  uint32_t number = 0;

  uint64_t packed() const { return uint64_t{term} << 32 | number; }
  static Epoch FromPacked(uint64_t packed) {
    return {static_cast<uint32_t>(packed >> 32), static_cast<uint32_t>(packed)};
  }
  std::string ToString() const { return absl::StrCat(term, ".", number); }

  friend auto operator<=>(const Epoch&, const Epoch&) = default;
};

// The numbered set of members. Numbers only grow, over terms too. {0, {}} stands for the world of the region
// headers: every rank, of whatever incarnation.
struct View {
  uint64_t number = 0;
  std::vector<Member> members;  // ascending by rank

  friend bool operator==(const View&, const View&) = default;
};

// What a slot holds, as its own agent stores it in the region's inventory (rules 5, 7, 9).
enum class SlotState : uint32_t {
  kFree = 0,       // content of no use
  kWriting = 1,    // a move into it was begun
  kVerified = 2,   // content matched its fingerprint; maps may name it
  kCondemned = 3,  // mismatched too often; never used again in this incarnation
};

struct SlotRecord {
  SlotState state = SlotState::kFree;
  ExpertId expert;           // what it holds or is about to hold
  uint64_t generation = 0;   // changes with every move into the slot
  uint64_t fingerprint = 0;  // of the content where verified

  friend bool operator==(const SlotRecord&, const SlotRecord&) = default;
};

}  // namespace evenkeel
