// SPDX-License-Identifier: Apache-2.0
//
// RankChange: one admission or drain that is under way, and how far its ranks are.
//
// Threads:   plain values. Owned by GroupState.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/protocol/identity.h"
#include "controller/core/event.h"

namespace evenkeel::controller {

struct RankChange {
  std::string operation_id;
  Cause cause = Cause::kAdmit;  // or kDrain
  std::vector<RankId> ranks;    // of a drain: those that have not left yet; ascending
  absl::Duration grace;         // of a drain
  bool needs_plan = false;      // ranks stand otherwise than the last plan knew
  absl::Time plan_after = absl::InfinitePast();
  bool cancelled = false;  // ends when what runs for it has
  std::string failure;     // why its last rollout did not reach the plan
};

// A rank that is being emptied and holds nothing any more.
struct Emptied {
  absl::Time since;
  Epoch epoch;  // from which on no map names it
  absl::Time grace_end;
};

struct RankChanges {
  std::vector<RankChange> open;                 // oldest first
  absl::btree_map<RankId, uint64_t> newcomers;  // joining: the view that took it in
  absl::btree_map<RankId, Emptied> emptied;     // draining
  absl::btree_map<RankId, uint64_t> leaving;    // left: the view without it, until all others have quiesced there
  absl::Time next_wakeup = absl::InfiniteFuture();

  RankChange* Find(const std::string& operation_id) {
    for (RankChange& change : open) {
      if (change.operation_id == operation_id) return &change;
    }
    return nullptr;
  }
};

constexpr bool IsRankChange(Cause cause) { return cause == Cause::kAdmit || cause == Cause::kDrain; }

}  // namespace evenkeel::controller
