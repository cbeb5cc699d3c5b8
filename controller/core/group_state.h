// SPDX-License-Identifier: Apache-2.0
//
// GroupState: everything the controller knows of one group, as parts side by side.
//
// Group changes it, admission and the slow loop are functions over it, queries read it. Its parts refer to one another,
// so it never moves; a group whose whole world was replaced gets a new one.
//
// Threads:   none. Owned by Group.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/time/time.h"

#include "algos/flex/flex.h"
#include "algos/layer_map.h"
#include "algos/placement.h"
#include "algos/problem.h"
#include "controller/core/alerts.h"
#include "controller/core/event.h"
#include "controller/core/planning/fast_loop.h"
#include "controller/core/planning/freeze.h"
#include "controller/core/planning/gap_watch.h"
#include "controller/core/planning/group_flex.h"
#include "controller/core/planning/guard.h"
#include "controller/core/planning/layer_choice.h"
#include "controller/core/planning/load_book.h"
#include "controller/core/ranks/evidence.h"
#include "controller/core/ranks/membership.h"
#include "controller/core/ranks/rank_change.h"
#include "controller/core/ranks/restores.h"
#include "controller/core/rollout/move_orders.h"
#include "controller/core/rollout/placement_history.h"
#include "controller/core/rollout/publisher.h"
#include "controller/core/rollout/rollout.h"
#include "controller/core/rollout/slot_table.h"
#include "controller/core/rollout/step_times.h"
#include "controller/core/status.h"

namespace evenkeel::controller {

// A plan that is being computed off the strand.
struct PendingPlan {
  std::string operation_id;
  std::string policy;
  std::string phase;  // "prefill" or "decode" where it plans on that phase's tokens alone
  Cause cause = Cause::kSlowLoop;
  std::vector<LayerId> layers;  // that were named; empty: none was
  bool for_operator = false;
  bool dry_run = false;
  bool of_placements = false;  // that were named
  std::shared_ptr<const algos::Problem> problem;
  absl::Time asked;
  absl::Duration span;                 // that the problem's episodes cover
  std::vector<LayerDecision> skipped;  // layers that the problem leaves out
};

// What a controller before, or a group before this one, left undone.
struct Unfinished {
  std::string policy;
  std::vector<LayerId> layers;  // empty: all
  bool for_operator = false;
  Cause cause = Cause::kTakeover;
};

// The operation whose layers are on their way.
struct RunningOperation {
  std::string id;
  Cause cause = Cause::kSlowLoop;
  bool cancelled = false;
  int num_layers_left = 0;
  int num_layers_failed = 0;
  int num_layers_stopped = 0;  // before they were done: it was cancelled
  std::string failure;         // of the first layer that failed
};

// What a plan wants of a layer that is on its way there.
struct PlannedShares {
  algos::Placement target;
  algos::Shares shares;
};

// An operator wants the controller to do nothing by itself.
struct Pause {
  std::string operation_id;
  std::string reason;
};

// What operators have fixed with one request.
struct StandingPins {
  std::string operation_id;
  std::vector<algos::Pin> pins;
  std::vector<LayerId> frozen;  // ascending
  std::string reason;
};

// What the fast loop would have done last, in mode shadow.
struct ShadowShares {
  absl::Time time = absl::InfinitePast();
  int num_layers = 0;           // whose shares would change
  double imbalance_before = 0;  // means over these
  double imbalance_after = 0;
};

// The operation of ranks that were lost, until what only they held is restored. Counts as Restores had them before.
struct Emergency {
  std::string operation_id;
  std::string text;
  int num_begun = 0;
  int num_restored = 0;
  int num_failed = 0;
};

// What was said of ranks with other weights.
struct WeightsWatch {
  std::string text;  // why nothing is moved; empty: all have the same
  absl::Time since;
  bool alerted = false;
};

struct GroupState {
  static constexpr size_t kPublishTimesKept = 4096;

  GroupState(const GroupInfo& group_info, const GroupSettings& group_settings, uint32_t the_term, absl::Time now)
      : info(group_info),
        settings(group_settings),
        term(the_term),
        clock(now),
        members(info.shape.num_ranks, info.num_first_ranks()),
        slots(info.shape, info.num_layers, settings.mismatches_until_condemned),
        publisher(info.shape.num_ranks, info.num_layers),
        orders(the_term),
        rollouts({info, settings, members, slots, orders, step_times}),
        evidence(info.shape.num_ranks),
        restores({info, settings, members, slots, orders}),
        fast_loop(info.shape, {.cost = settings.planning.cost, .capacities = settings.planning.capacities}),
        loads(info, settings, now),
        flex(FlexFor(info, settings)),
        predicted(static_cast<size_t>(info.num_layers), 0.0),
        memories(static_cast<size_t>(info.num_layers)),
        mode(settings.mode),
        guard(settings.guard) {}
  GroupState(const GroupState&) = delete;
  GroupState& operator=(const GroupState&) = delete;

  GroupInfo info;  // but for its weights version, constant
  const GroupSettings settings;
  uint32_t term;        // 0: not taken yet
  absl::Time clock;     // of the event at hand
  bool formed = false;  // view and maps were published under this term
  Membership members;
  SlotTable slots;
  Publisher publisher;
  MoveOrders orders;
  StepTimes step_times;
  Rollouts rollouts;
  Evidence evidence;
  Restores restores;
  FastLoop fast_loop;
  LoadBook loads;
  GapWatch gap;
  std::optional<algos::Flex> flex;    // follows the load where the group's policy is flex
  std::vector<double> predicted;      // [num_layers] of the shares in force, when they were chosen; 0: unknown
  std::vector<LayerMemory> memories;  // [num_layers]
  absl::btree_map<LayerId, PlannedShares> planned_shares;  // until the layer is there
  int64_t num_windows_closed = 0;
  int num_windows_unkept = 0;   // closed since the store was given some
  uint64_t highest_view = 0;    // heard or published
  uint64_t num_operations = 0;  // begun by the group itself
  absl::Time next_shares = absl::InfinitePast();
  absl::Time next_placement = absl::InfiniteFuture();
  uint64_t placement_step = 0;     // engine step by which the slow loop was last woken
  std::optional<Unfinished> next;  // what the next plan goes on with; empty: the slow loop plans for itself
  std::string last_skip;           // why the slow loop did nothing, last time
  absl::btree_map<uint64_t, PendingPlan> plans;
  std::optional<RunningOperation> running;
  RankChanges changes;
  std::optional<Emergency> emergency;
  WeightsWatch weights;
  std::string held_back;  // why silent ranks stay, while they do
  std::optional<Pause> pause;
  Mode mode;                // in force
  std::string mode_set_by;  // the operation that set it; empty: it is the configured one
  ShadowShares shadow_shares;
  Guard guard;
  absl::Time next_guard_look = absl::InfinitePast();
  uint64_t tokens_guarded = 0;                 // of loads.num_tokens(), told to the guard
  std::vector<algos::LayerMap> maps_on_trial;  // [num_layers] as the guard's trial began; empty: none ever did
  std::string guard_verdict;                   // on what was undone last
  std::vector<StandingPins> pins;              // in the order in which they were asked for
  PlacementHistory history;
  absl::btree_map<Epoch, absl::Time> publish_times;  // of the epochs that some member has not quiesced past
  absl::Time last_publish = absl::InfinitePast();
  absl::Time last_load = absl::InfinitePast();  // when a window closed in which anything was counted
  int num_plans_failed = 0;                     // of its own, in a row
  View told_view;                               // the newest that any agent told, until the group has formed
  Alerts alerts;
  GroupTotals totals;

  // Why maps never change; empty where they do (rules 15, 27).
  std::string StaticReason() const {
    if (info.routing == Routing::kReplicated) {
      return "static maps: the group routes a token on several ranks, which needs all of them to switch at one step";
    }
    if (info.shape.num_redundant() == 0) {
      return "static maps: there is no redundant slot, so nothing can be moved or shared";
    }
    return {};
  }
  // Whether maps may be published at all.
  bool MayPublish() const { return formed && info.routing != Routing::kReplicated; }

  // Whether the fast loop, and the slow one, are to decide anything by themselves.
  bool SharesOn() const { return settings.shares_enabled && DecidesShares(mode); }
  bool PlacementOn() const { return settings.placement_enabled && DecidesPlacement(mode); }
  // Whether it is to decide nothing by itself now, for an operator, a freeze or the guard.
  bool Held() const {
    return pause.has_value() || guard.resting(clock) || FrozenUntil(settings.freezes, clock) > clock;
  }
  // Whether the plan that is due next is not to be made.
  bool HoldsPlans() const {
    if (next.has_value() && next->for_operator) return false;
    return !PlacementOn() || (Held() && !(next.has_value() && next->cause == Cause::kEmergency));
  }

  // Begins now; see Alerts::Raise.
  void Alert(std::string text, Alerts::Lasts lasts, Effects& effects) {
    effects.push_back(Note{.group = info.name, .text = text, .is_alert = true});
    alerts.Raise(std::move(text), std::move(lasts), clock);
  }
};

}  // namespace evenkeel::controller
