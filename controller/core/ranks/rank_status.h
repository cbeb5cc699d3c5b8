// SPDX-License-Identifier: Apache-2.0
//
// RankStatus: who is in a group, as the Coordinator's queries tell it.
//
// Order:     ranks ascending, each up to the most that the group may have.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "controller/core/ranks/standing.h"

namespace evenkeel::controller {

struct RankStatus {
  RankId rank;
  Standing standing = Standing::kAbsent;
  uint64_t incarnation = 0;  // of its member, or the last one that was; 0: there was none
  bool attached = false;
  bool alive = false;      // its agent says that the engine's lock is held
  bool waiting = false;    // another engine of this rank waits to be taken in
  int num_slots_live = 0;  // over all layers
  absl::Time since = absl::InfinitePast();
  bool safe_to_terminate = false;  // nothing in the group refers to it any more
  uint64_t weights_version = 0;    // as it said when it attached last; 0 too where it never did
  bool suspended = false;          // its weights are about to change, or do
  std::string operation = {};      // of the admission or drain under way
  std::string note = {};           // what it waits for, for people

  friend bool operator==(const RankStatus&, const RankStatus&) = default;
};

struct MembershipStatus {
  std::string group;
  uint32_t term = 0;
  bool forming = false;
  uint64_t view_number = 0;
  int num_slots_of_rank = 0;  // over all layers
  std::vector<RankStatus> ranks = {};

  friend bool operator==(const MembershipStatus&, const MembershipStatus&) = default;
};

}  // namespace evenkeel::controller
