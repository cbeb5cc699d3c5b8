// SPDX-License-Identifier: Apache-2.0
//
// Events and effects of the Coordinator: all that the controller's core hears and all that it can have done.
//
// Order:     effects are carried out in the order given; what follows a PersistTerm waits until it is durable. Operations
//            are stored behind, in order; who asked for one is answered when the store has it.
// Threads:   plain values.
#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "algos/layer_map.h"
#include "algos/policy.h"
#include "algos/protocol/identity.h"
#include "algos/protocol/messages.h"
#include "controller/core/mode.h"
#include "controller/core/operation_progress.h"
#include "controller/core/planning/decision.h"
#include "controller/core/planning/freeze.h"
#include "controller/core/planning/guard.h"
#include "controller/core/planning/load_history.h"
#include "controller/core/planning/planning_settings.h"

namespace evenkeel::algos {
class Flex;
}

namespace evenkeel::controller {

// One stream of one agent; chosen by the shell, never used twice.
using SessionId = uint64_t;

// ---- Events ------------------------------------------------------------------------------------------------------

struct AgentMessageReceived {
  SessionId session = 0;
  AgentMessage message;  // the first of a session is Attach
};
struct AgentDetached {
  SessionId session = 0;
};
struct RearrangeRequested {
  std::string operation_id;  // idempotent: a known one changes nothing
  std::string group;
  std::string policy;                             // empty: the configured one
  std::vector<LayerId> layers;                    // empty: all
  bool dry_run = false;                           // plan, price and report; change nothing
  PolicyOptions policy_options = {};              // over the configured ones where the policy is the same
  std::vector<uint64_t> load = {};                // [num_layers * num_experts] to plan by; empty: what was counted
  std::vector<algos::Placement> placements = {};  // of policy `static`: [num_layers], or empty: what there is
  std::string by = {};                            // who asks, of all of these: for people
  std::string request = "Rearrange";              // by what call
  Cause cause = Cause::kOperator;
};
// Takes ranks in: those whose engines wait, at once, the others when theirs come.
struct AdmitRequested {
  std::string operation_id;  // as above
  std::string group;
  std::vector<RankId> ranks;
  std::string by = {};
};
// Empties ranks and takes them out of the group.
struct DrainRequested {
  std::string operation_id;  // as above
  std::string group;
  std::vector<RankId> ranks;
  std::optional<absl::Duration> grace;  // for engines to end what they do, once empty; none: GroupSettings::drain_grace
  std::string by = {};
};
// The operation ends as soon as it can; unknown and finished ones are left as they are.
struct CancelRequested {
  std::string operation_id;
  std::string by = {};
};
// The controller does nothing by itself, until ResumeRequested; nothing where the group is paused already.
struct PauseRequested {
  std::string operation_id;  // as above; stands for the pause
  std::string group;
  std::string reason;
  std::string by = {};
};
struct ResumeRequested {
  std::string group;
  std::string by = {};
};
// The group gets another mode.
struct SetModeRequested {
  std::string operation_id;  // as above; stands for the mode
  std::string group;
  Mode mode = Mode::kFull;
  std::string reason = {};
  std::string by = {};
};
// Experts are to stay on ranks, and layers as they are, until UnpinRequested.
struct PinRequested {
  std::string operation_id;  // as above; stands for the pins
  std::string group;
  std::vector<algos::Pin> pins;
  std::vector<LayerId> frozen;
  std::string reason = {};
  std::string by = {};
};
// Ends them; unknown ones are left as they are.
struct UnpinRequested {
  std::string group;
  std::vector<std::string> operation_ids;
  std::string by = {};
};
struct PlanComputed {
  uint64_t plan_id = 0;
  absl::StatusOr<std::vector<algos::LayerPlan>> plans;  // [num_layers]
};
// Time passed; given when NextWakeup was reached.
struct Tick {};

using Event = std::variant<AgentMessageReceived, AgentDetached, RearrangeRequested, PlanComputed, Tick, CancelRequested,
                           AdmitRequested, DrainRequested, PauseRequested, ResumeRequested, SetModeRequested,
                           PinRequested, UnpinRequested>;

// ---- Effects -----------------------------------------------------------------------------------------------------

// A message for one agent or for many: copies share it, so that it is made and encoded once.
class SharedMessage {
 public:
  template <typename Body>
  requires std::constructible_from<ControllerMessage, Body> SharedMessage(Body&& body)
      : message_(std::make_shared<const ControllerMessage>(std::forward<Body>(body))) {}

  const ControllerMessage& operator*() const { return *message_; }
  const ControllerMessage* operator->() const { return message_.get(); }
  // Whether both are copies of one.
  bool Same(const SharedMessage& other) const { return message_ == other.message_; }

 private:
  std::shared_ptr<const ControllerMessage> message_;
};

struct SendToAgent {
  SessionId session = 0;
  SharedMessage message;
};
struct CloseSession {
  SessionId session = 0;
};
// Run `policy` on `problem` off the strand (compute_plan.h); answer PlanComputed.
struct ComputePlan {
  uint64_t plan_id = 0;
  std::string policy;
  std::shared_ptr<const algos::Problem> problem;
  algos::PolicyConfig config = {};
  std::shared_ptr<const algos::Flex> flex = {};  // of a group that one follows, as it was; plans instead of `policy`
};
// The operation began or changed; watchers are told, the store keeps it.
struct PersistOperation {
  OperationProgress operation;
};
// What was counted lately is to be known to a successor; where that fails it counts anew.
struct PersistLoad {
  std::shared_ptr<const LoadHistory> load;
};
// What happened, for logs.
struct Note {
  std::string group;
  std::string text;
  bool is_alert = false;  // an operator should know of it
};
// The term of this leadership, to be durable before anything is sent under it (rule 3).
struct PersistTerm {
  uint32_t term = 0;
};
// A higher term was heard: this controller must end; its successor starts above `term`, which is to be stored.
struct StepDown {
  uint32_t term = 0;
};

using Effect =
    std::variant<SendToAgent, CloseSession, ComputePlan, PersistOperation, PersistLoad, Note, PersistTerm, StepDown>;
using Effects = std::vector<Effect>;

// ---- Settings ----------------------------------------------------------------------------------------------------

// Per group; every field has a default that suits a production group. Validated by the configuration's converter.
struct GroupSettings {
  Mode mode = Mode::kFull;  // until an operator sets another; goes before shares_enabled and placement_enabled
  std::string policy = "flex";
  // Fast loop.
  bool shares_enabled = true;
  absl::Duration shares_interval = absl::Seconds(1);  // at most this often
  double shares_min_gain = 0.005;                     // predicted imbalance must fall by at least this
  // Load.
  absl::Duration window = absl::Seconds(1);
  int num_windows_kept = 600;
  int num_windows_for_shares = 5;
  // Slow loop.
  bool placement_enabled = true;
  absl::Duration placement_interval = absl::Seconds(10);  // this and the planning's budget: flex's (PaceOf)
  int num_windows_for_placement = 60;
  double placement_min_gain = 0.02;                      // per layer, predicted imbalance with shares solved
  absl::Duration placement_horizon = absl::Minutes(10);  // over which a gain must pay for its bytes
  uint64_t link_bytes_per_second = uint64_t{10} << 30;   // price of a move
  PlanningSettings planning;
  std::vector<Freeze> freezes;  // when it does nothing by itself
  GuardSettings guard;
  // Rollouts.
  int concurrent_layers_max = 4;
  int moves_per_rank_max = 2;     // into one rank at a time, over all layers
  int copies_per_source_max = 1;  // out of one slot at a time
  absl::Duration move_deadline = absl::Seconds(30);
  absl::Duration wave_deadline = absl::Seconds(60);  // to quiesce and move; then the wave is undone
  int mismatches_until_condemned = 3;
  // Losses (docs/membership.md).
  absl::Duration agent_lease = absl::Seconds(3);    // an agent that says nothing for so long is silent
  absl::Duration engine_lease = absl::Seconds(30);  // so is an engine whose step gets nowhere, waiting for nobody
  int witnesses = 2;  // engines that must wait for a silent rank before it is expelled; of two ranks, one
  // Membership.
  bool auto_rejoin = true;                         // a rank that was lost is taken in again when its engine comes back
  bool auto_admit = false;                         // so is any other: a new one, a drained one
  absl::Duration drain_grace = absl::Seconds(30);  // where a drain names none
  AgentSettings agent;

  friend bool operator==(const GroupSettings&, const GroupSettings&) = default;
};

struct CoordinatorSettings {
  uint32_t stored_term = 0;                                  // highest term known to the store
  absl::Duration listen_interval = absl::Milliseconds(500);  // agents are heard this long before a term is taken
  GroupSettings defaults;
  std::vector<std::pair<std::string, GroupSettings>> groups;  // by name; others take `defaults`
  int num_groups_max = 256;
  absl::Duration group_kept = absl::Hours(24);   // without any agent; those in `groups` are kept for ever
  uint64_t group_bytes_max = uint64_t{8} << 30;  // of all groups' tables, as estimated (GroupBytes)
  int num_operations_kept = 1000;
  // Those of earlier controllers, oldest first: their ids stay known; unfinished ones are closed as superseded and
  // their groups are planned anew (Cause::kTakeover).
  std::vector<OperationProgress> stored_operations;
  // What earlier controllers counted, each group's oldest first; that of another model or shape is left alone.
  std::vector<LoadHistory> stored_loads;
};

}  // namespace evenkeel::controller
