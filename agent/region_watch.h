// SPDX-License-Identifier: Apache-2.0
//
// RegionWatch: when to look at the region's words, and what has changed in them since.
//
// The engine tells nobody what it does, so its words are polled: every kFast while something is awaited (the engine
// is to quiesce, or to acknowledge post_move), less and less often the longer that takes, and every kSlow otherwise.
//
// Threads:   the agent's strand. Refers to the region, which outlives it.
#pragma once

#include <cstdint>
#include <tuple>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/time/time.h"

#include "agent/core/event.h"
#include "algos/protocol/identity.h"
#include "engine/region/agent_region.h"

namespace evenkeel::agent {

class RegionWatch {
 public:
  static constexpr absl::Duration kFast = absl::Milliseconds(1);
  static constexpr absl::Duration kSlow = absl::Milliseconds(20);
  static constexpr absl::Duration kFastFor = absl::Milliseconds(100);  // then a twentieth of the time waited

  explicit RegionWatch(engine::AgentRegion& region) : region_(region) {}

  // The engine is to quiesce at `epoch` and `view_number`.
  void AwaitQuiescence(absl::Time now, Epoch epoch, uint64_t view_number);
  void AwaitPostMove(absl::Time now, LayerId layer, SlotIdx slot, uint64_t generation);

  absl::Time NextPoll() const { return next_poll_; }
  // EngineObserved where quiescence changed or kSlow has passed since the last one, and acknowledged post_moves.
  std::vector<Event> Poll(absl::Time now);

  // As last seen.
  bool engine_alive() const { return alive_; }
  uint64_t suspension() const { return suspension_; }

 private:
  bool Awaits() const;
  void Begin(absl::Time now);

  engine::AgentRegion& region_;
  absl::Time next_poll_ = absl::InfinitePast();
  absl::Time next_full_ = absl::InfinitePast();
  absl::Time awaited_since_;
  engine::Quiescence awaited_;
  engine::Quiescence seen_;
  absl::btree_set<std::tuple<LayerId, SlotIdx, uint64_t>> post_moves_;
  bool alive_ = true;
  uint64_t suspension_ = 0;
};

}  // namespace evenkeel::agent
