// SPDX-License-Identifier: Apache-2.0
//
// Cluster: a Coordinator with agents that do exactly what they are told, and a judge of every step.
//
// Agents answer at once unless told otherwise: a stalled one does not quiesce, one that holds moves does not answer
// them, one that is away is not heard. The judge checks that no slot is written while any map in use names it, that maps
// name verified slots alone, that epochs only grow (docs/protocol.md, rules 3, 5, 6, 7), that a rank that joins is told
// only once all others have quiesced at its view, and that maps name its slots only once it has too (rule 14).
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"

#include "algos/layer_map.h"
#include "algos/placement.h"
#include "algos/protocol/messages.h"
#include "controller/core/coordinator.h"
#include "controller/core/event.h"
#include "controller/core/planning/planning_settings.h"

namespace evenkeel::controller {

using Maps = std::vector<algos::LayerMap>;  // [num_layers]

// Of groups that `policy` plans, at its pace.
inline CoordinatorSettings PlannedBy(std::string policy) {
  CoordinatorSettings settings;
  const Pace pace = PaceOf(policy);
  settings.defaults.policy = std::move(policy);
  settings.defaults.placement_interval = pace.placement_interval;
  settings.defaults.planning.layer_moves_per_100_windows = pace.layer_moves_per_100_windows;
  return settings;
}

struct FakeAgent {
  Member member;
  std::optional<SessionId> session;
  uint32_t term_obeyed = 0;
  uint64_t view_number = 0;
  std::vector<Member> view_members;  // of that view
  std::vector<Member> accepted;      // of the view at which it quiesced last
  bool joining = false;              // started to join: without experts, outside the set
  bool outside = false;              // it is no member: nothing is in use
  bool idle = false;                 // told with every report
  bool suspended = false;            // its weights are about to change
  bool released = false;             // and it was told that nobody reads its slots
  uint64_t weights_version = 0;
  Epoch epoch;
  Maps maps;
  std::vector<Maps> in_use;  // maps that a step may still follow; the newest is `maps`
  Epoch quiesced;
  std::vector<SlotRecord> slots;                   // [num_layers * slots_per_rank]
  std::map<std::pair<int, int>, MoveOrder> moves;  // (layer, slot) -> begun and not answered
  bool stalled = false;
  bool holds_moves = false;
  int num_moves_to_corrupt = 0;
  int num_moves_to_fail = 0;
  absl::Duration mean_step_time;  // told with every report
  int num_mismatches = 0;         // of the next move, before it ends well
  bool welcomed = false;
  std::optional<absl::Status> refused;
};

class Cluster {
 public:
  struct Options {
    algos::Shape shape{.num_experts = 8, .num_ranks = 4, .slots_per_rank = 3};
    int num_layers = 2;
    CoordinatorSettings settings = PlannedBy("greedy");
    Routing routing = Routing::kSender;
    int world = 0;                  // ranks that make the group; 0: all of shape
    bool may_lose_experts = false;  // the judge lets maps name no replica of an expert
  };
  explicit Cluster(Options options);

  static constexpr const char* kGroup = "g";

  Attach AttachOf(int rank) const;
  void AttachAgent(int rank);
  void AttachAll();  // of the world
  void DetachAgent(int rank);
  // A new coordinator that knows nothing but the stored term; all agents lose their streams.
  void RestartController(std::vector<OperationProgress> stored = {});
  // The rank's engine starts anew, another incarnation: with the default placement, or to join.
  void RestartEngine(int rank);
  void StartJoining(int rank);

  void Send(int rank, AgentMessage message);
  void Deliver(const Event& event);
  void Rearrange(std::string id, std::string policy = "greedy", std::vector<LayerId> layers = {}, bool dry_run = false);

  // Passes time: ticks, plans, load reports every 100 ms of what `load` says.
  void Run(absl::Duration duration);
  bool RunUntil(const std::function<bool()>& condition, absl::Duration limit = absl::Seconds(60));
  void Settle();  // only what can happen without time

  // Answers what a rank that stalled or held moves owes.
  void Resume(int rank);

  // The rank's engine asks to be suspended; its moves end.
  void SuspendWeights(int rank);
  // It has new weights of `version`; its agent attaches again. Requires: it was released.
  void ResumeWeights(int rank, uint64_t version);
  uint64_t FingerprintOf(LayerId layer, ExpertId expert, uint64_t version = 0) const;

  std::string StateOf(std::string_view operation) const;
  GroupStatus Status() const { return *coordinator->GetGroup(kGroup, now); }
  OperationProgress Operation(std::string_view id) const { return *coordinator->GetOperation(id); }

  const Options options;
  absl::Time now = absl::FromUnixSeconds(1000000);
  std::unique_ptr<Coordinator> coordinator;
  std::vector<FakeAgent> agents;
  std::vector<std::vector<uint64_t>> load;  // [layer][expert] tokens a second; empty: none
  // Of these; the rest is of decode. Empty: no phase is told.
  std::vector<std::vector<uint64_t>> prefill_load;
  uint64_t step = 0;  // of all engines, one a report
  uint32_t stored_term = 0;
  std::vector<LoadHistory> stored_loads;  // what a restarted controller finds; oldest first
  bool ignores_shares = false;            // engines send each expert's tokens to its first replica alone
  bool hold_plans = false;                // computed plans wait in `plans`
  std::deque<ComputePlan> plans;
  // What was seen.
  std::vector<std::string> notes;
  std::vector<OperationProgress> persisted;
  std::vector<MoveOrder> orders;
  std::vector<CancelMove> cancels;
  std::vector<MapsUpdate> updates;  // accepted, by any agent
  std::optional<uint32_t> stepped_down;
  uint64_t trace = 0;  // digest of all effects' kinds and keys

 private:
  void Take(const Effect& effect);
  void ToAgent(FakeAgent& agent, const ControllerMessage& message);
  void Obey(FakeAgent& agent, const MapsUpdate& update);
  void Obey(FakeAgent& agent, const MoveOrder& order);
  void Obey(FakeAgent& agent, const CancelMove& cancel);
  void EndMove(FakeAgent& agent, const MoveOrder& order);
  void Quiesce(FakeAgent& agent);
  void ReportLoad();
  SlotRecord& RecordOf(LayerId layer, SlotIdx slot);
  void JudgeWrite(LayerId layer, SlotIdx slot) const;
  void JudgeMaps(const Maps& maps) const;
  // What `agent` has just been told of, and not before.
  void JudgeView(const FakeAgent& agent, const View& view) const;
  static bool Knows(const FakeAgent& agent, const Member& member);

  std::deque<Event> inbox_;  // for the coordinator
  bool settling_ = false;
  SessionId next_session_ = 1;
  absl::Time next_report_;
};

}  // namespace evenkeel::controller
