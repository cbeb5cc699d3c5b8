// SPDX-License-Identifier: Apache-2.0
//
// LayerRollout: where one layer is on its way to its target, and what the move planner and people need to know of it.
//
// Threads:   none; plain values and pure functions. Owned by Rollouts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/moves.h"
#include "algos/placement.h"
#include "controller/core/event.h"
#include "controller/core/ranks/membership.h"
#include "controller/core/rollout/move_orders.h"
#include "controller/core/rollout/slot_table.h"

namespace evenkeel::controller {

struct WaveMove {
  enum class State { kWaiting, kOrdered, kEnded };
  algos::PlannedMove plan;
  State state = State::kWaiting;
};

struct RolloutWave {
  std::vector<SlotIdx> retired;
  std::vector<WaveMove> moves;
  absl::Time begun;
  absl::Time ordered = absl::InfiniteFuture();  // the first move
  absl::Time deadline;
  bool verified_any = false;
  bool paused = false;  // given up because a rank was suspended: nobody's fault
};

// Who holds a layer up; rank none: nobody.
struct Blame {
  RankId rank;
  std::string reason;
};

struct LayerRollout {
  algos::Placement target;
  std::string operation_id;
  bool in_wave = false;
  bool stopping = false;  // no wave after this one
  RolloutWave wave;
  absl::Time retry = absl::InfinitePast();  // no wave before
  bool backing_off = false;
  int num_undone = 0;  // waves in a row, without a verified move
  int num_failed = 0;  // waves in a row whose moves all failed
  RankId culprit;      // of the last undone wave
  int num_undone_by_culprit = 0;
  std::string reason;  // of the last back-off
  absl::Time backing_off_since;
  absl::btree_map<SlotIdx, RankId> avoid_source;  // of slots whose last move failed
};

using LayerRollouts = absl::btree_map<LayerId, LayerRollout>;

// What happened, for operations, totals and alerts.
struct RolloutReport {
  enum class Kind {
    kWaveBegun,
    kWaveUndone,
    kWaveEnded,  // undone or not
    kMoveVerified,
    kMoveFailed,
    kLayerDone,
    kLayerFailed,
    kLayerStopped,
    kAlert
  };
  Kind kind = Kind::kWaveBegun;
  LayerId layer;
  std::string operation_id;  // empty: of none that still runs
  int num_moves = 0;         // of the wave
  uint64_t bytes = 0;
  int num_corrupt = 0;                             // attempts that did not match
  absl::Duration retiring = absl::ZeroDuration();  // of a wave that ended: up to its first move
  absl::Duration moving = absl::ZeroDuration();    // and from there
  std::string text;                                // of failures and alerts
};

bool AllEnded(const RolloutWave& wave);

// The layer as the move planner sees it, with the slots in `staged` taken as live already.
algos::MoveState MoveStateOf(LayerId layer, const std::vector<SlotIdx>& staged, const SlotTable& table,
                             const Membership& members, const MoveOrders& orders, const LayerRollouts& rollouts,
                             absl::Time now);

algos::MoveLimits MoveLimitsOf(const GroupInfo& info, const GroupSettings& settings);

Blame FindBlame(LayerId layer, const LayerRollout& rollout, const Membership& members, const SlotTable& slots,
                uint64_t view_number);

}  // namespace evenkeel::controller
