// SPDX-License-Identifier: Apache-2.0
//
// Status: what the Coordinator's queries return, for services, metrics and people.
//
// Plain values, made afresh by each query; nothing refers back into the coordinator. Imbalance is max rank
// load / mean rank load (1.0 is perfect) and 0 where nothing was counted or predicted yet.
//
// Order:     members by rank, layers and experts ascending, windows oldest first.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "algos/base/ids.h"
#include "algos/layer_map.h"
#include "algos/placement.h"
#include "algos/problem.h"
#include "algos/protocol/identity.h"
#include "algos/protocol/messages.h"
#include "controller/core/alerts.h"
#include "controller/core/group_totals.h"
#include "controller/core/map_status.h"
#include "controller/core/mode.h"

namespace evenkeel::controller {

struct MemberStatus {
  Member member;  // incarnation 0: this rank never attached under this term
  bool attached = false;
  bool alive = false;  // its agent says that the engine's lock is held
  bool idle = false;
  Epoch accepted_epoch;  // newest maps sent to it on this stream, or told by it at Attach
  Epoch quiesced_epoch;
  uint64_t quiesced_view = 0;
  uint64_t num_steps = 0;
  uint64_t num_calls_waited = 0;
  absl::Duration oldest_open_step;
  absl::Duration quiescence_lag;           // since maps newer than quiesced_epoch were published; zero: there are none
  bool silent = false;                     // its agent, or its engine in a step, said nothing for its lease
  int num_suspecting = 0;                  // ranks whose engines wait for it, as they said last
  absl::Time changed;                      // when it last attached or detached
  bool takes_part = true;                  // not one that was lost, or left
  std::vector<std::string> missing_calls;  // "never called begin_step", ...: 10 s or more after registering
  std::string note;                        // what holds it outside the set, or empty
};

// What a layer's wave is waiting for.
struct WaveBlocked {
  LayerId layer;
  RankId rank;
  std::string reason;
  absl::Time since;
  int num_waves_undone = 0;  // in a row, with this culprit
};

struct LayerStatus {
  LayerId layer;
  Epoch epoch;                     // at which its map last changed
  std::string phase;               // "steady", "retiring", "moving", "backing off"
  double imbalance_now = 0;        // realised, over the windows that the fast loop looks at
  double imbalance_initial = 0;    // the same tokens under the default placement, shared evenly
  double imbalance_predicted = 0;  // of the shares in force, when they were chosen
  int num_slots_live = 0;
  int num_slots_retired = 0;
  int num_slots_writing = 0;
  int num_slots_verified = 0;  // content confirmed, not in the map
  int num_slots_free = 0;
  int num_slots_condemned = 0;
  int free_redundancy = 0;             // usable slots beyond what experts, pins and survive take (rule 27)
  std::vector<ExpertId> experts_lost;  // without a live replica: their tokens go nowhere
};

// How much is asked of a group: kSummary leaves out members, waiting, layers and waves_blocked, and what follows from them.
enum class GroupDetail { kSummary, kAll };

struct GroupStatus {
  std::string name;
  std::string model;
  GroupInfo info;
  std::string policy;
  uint32_t term = 0;
  Epoch epoch;  // newest published
  View view;
  bool forming = false;           // not every rank has attached under this term: nothing is published yet
  std::string static_reason;      // why maps never change; empty where they do
  std::string running_operation;  // id, or empty
  double imbalance_now = 0;       // means over layers
  double imbalance_initial = 0;
  double imbalance_predicted = 0;
  std::vector<MemberStatus> members;  // one for each rank of the world
  std::vector<MemberStatus> waiting;  // other incarnations and the like, outside the set
  std::vector<LayerStatus> layers;
  std::vector<WaveBlocked> waves_blocked;
  std::vector<Alert> alerts;             // oldest first, the latest 32
  std::string imbalance_gap;             // how realised and foretold imbalance differ, while they do for long (rule 31)
  std::vector<std::string> ineffective;  // what keeps balancing from working though it is on, for people
  Mode mode = Mode::kFull;               // in force
  std::string mode_set_by;               // the operation that set it; empty: it is the configured one
  absl::Time shadow_time = absl::InfinitePast();  // of what the fast loop would have done last, in mode shadow
  int shadow_layers = 0;                          // whose shares would have changed
  double shadow_before = 0;                       // imbalance, means over these
  double shadow_after = 0;
  std::vector<PinStatus> pins;
  std::vector<RollbackPoint> rollback_points;  // oldest first
  std::string paused_by;                       // the operation of the pause; empty: none
  std::string pause_reason;
  std::string held;            // why else it does nothing by itself, or moves slowly (WhyHeld); empty: neither
  std::string guard_pace;      // of moves; empty: there is no guard
  absl::Duration guarded_p50;  // step times over the guard's window; zero: unknown
  absl::Duration guarded_p99;
  absl::Duration map_age;        // since maps were last published; zero: never
  absl::Duration step_time_p99;  // measured; zero: unknown
  absl::Duration wave_deadline;  // of a wave's first try
  GroupTotals totals;
};

struct StatsQuery {
  int num_windows = 0;  // the last so many; 0: by `span`
  absl::Duration span;  // the windows of the last so long; zero with num_windows 0: all that are kept
  bool brief = false;   // leaves out GroupStats::layers
};

struct LayerStats {
  LayerId layer;
  std::vector<uint64_t> tokens_of_expert;
  std::vector<uint64_t> prefill_tokens_of_expert;  // of these; empty where the group counted none
  std::vector<uint64_t> decode_tokens_of_expert;
  std::vector<uint64_t> tokens_of_rank;  // realised
  double imbalance_realised = 0;
  double imbalance_initial = 0;
  double imbalance_predicted = 0;
};

// Means over layers.
struct WindowStats {
  absl::Time begin;
  uint64_t tokens = 0;
  uint64_t prefill_tokens = 0;  // of these, as engines tagged them
  uint64_t decode_tokens = 0;
  double imbalance_realised = 0;
  double imbalance_initial = 0;
  double imbalance_predicted = 0;
};

struct GroupStats {
  std::string group;
  absl::Time begin;
  absl::Time end;
  uint64_t tokens = 0;
  uint64_t prefill_tokens = 0;
  uint64_t decode_tokens = 0;
  double imbalance_realised = 0;  // means over layers and windows
  double imbalance_initial = 0;
  double imbalance_predicted = 0;
  std::vector<LayerStats> layers;  // over the whole span
  std::vector<WindowStats> windows;
};

// As the controller sees a slot (rule 5).
enum class SlotUse : uint32_t {
  kFree = 0,
  kLive = 1,
  kRetired = 2,
  kWriting = 3,
  kVerified = 4,
  kCondemned = 5,
};

struct SlotStatus {
  SlotUse use = SlotUse::kFree;
  ExpertId expert;
  uint64_t generation = 0;

  friend bool operator==(const SlotStatus&, const SlotStatus&) = default;
};

struct LayerMapStatus {
  LayerId layer;
  Epoch epoch;  // at which it last changed
  algos::LayerMap map;
  algos::Placement placement;  // of the map: slots not named are blank
  std::vector<SlotStatus> slots;
};

struct GroupMaps {
  std::string group;
  Epoch epoch;
  uint64_t view_number = 0;
  uint64_t digest = 0;
  std::vector<LayerMapStatus> layers;
};

struct LayerRedundancy {
  LayerId layer;
  int free_redundancy = 0;
  int num_slots_condemned = 0;
  std::vector<int> replicas_of_expert;  // live
  int ranks_may_be_lost_at_once = 0;    // any so many, with a live replica of each expert left
  int hosts_may_be_lost_at_once = 0;
  // Less protected than asked; where nothing is asked: that the loss of one rank more could take.
  std::vector<ExpertId> experts_at_risk;
};

struct RedundancyReport {
  std::string group;
  std::vector<LayerRedundancy> layers;
  int ranks_may_be_lost_serving = 0;              // survivors still have a slot for each expert
  int ranks_may_be_lost_rebalancing = 0;          // and one more, so that moves stay possible
  int ranks_may_be_lost_at_once = 0;              // and every expert still has a live replica at that very moment
  int ranks_may_be_lost_at_once_rebalancing = 0;  // and moves stay possible too
  int hosts_may_be_lost_at_once = 0;              // the same two, of whole hosts
  int hosts_may_be_lost_at_once_rebalancing = 0;
  algos::Survive survive_asked;
  std::vector<std::string> problems;  // empty: all is well
};

}  // namespace evenkeel::controller
