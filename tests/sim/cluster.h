// SPDX-License-Identifier: Apache-2.0
//
// Cluster: the processes of a run, and what an operator or a fault does to them.
//
// Dead agents and controllers are started again a while later, by whoever watches over them. A killed engine stays
// away, or another incarnation takes its place.
//
// Threads:   none.
// Owns:      the world, every agent, every controller.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/time/time.h"

#include "tests/sim/options.h"
#include "tests/sim/sim_agent.h"
#include "tests/sim/sim_controller.h"
#include "tests/sim/world.h"

namespace evenkeel::sim {

class Cluster {
 public:
  explicit Cluster(const Options& options);

  World& world() { return world_; }
  RegionModel* RegionOf(int group, int rank) { return world_.engines[static_cast<size_t>(group)]->region(rank); }
  SimAgent& agent(int group, int rank) { return *agents_[static_cast<size_t>(world_.AgentOf(group, rank))]; }
  // The one that agents find; null while there is none.
  SimController* controller();
  SimController* controller_at(int idx) { return controllers_[static_cast<size_t>(idx)].get(); }
  int num_controllers() const { return static_cast<int>(controllers_.size()); }

  void KillController();
  // A new controller takes over while the old one lives on until `end`; some of the streams stay with the old one.
  void AddController(absl::Time end);
  void KillEngine(int group, int rank);
  void RestartEngine(int group, int rank);
  // An engine that joins comes on a rank that has none.
  void StartJoining(int group, int rank);
  // Engine and agent of a rank end that nothing refers to any more.
  void Terminate(int group, int rank);
  void RestartGroup(int group);
  // The engine ends; its agent too, and does not come back before the rank is replaced.
  void LoseEngine(int group, int rank, bool with_agent);
  void HangEngine(int group, int rank, bool with_agent);
  // Another process takes the place of whatever is left of the rank.
  void Replace(int group, int rank);
  // Ranks that serve and get on.
  std::vector<int> HealthyRanks(int group);
  bool HasFormed(int group);
  // A member has the expert's weights, or a store that somebody can read; that counts only where the controller knows the
  // fingerprint: no store tells it to one that took over after the last replica had gone.
  bool HasSource(int group, LayerId layer, ExpertId expert);
  // Index of a slot of the rank whose expert has several other good copies; -1 where none is found.
  int64_t SlotToSpare(int group, int rank);
  // Damages a slot whose expert has other copies; false if the one drawn is none.
  bool RotSlot(int group, int rank);
  void JumpClock();

  // False for groups one of whose engines is gone, outside the set or of other weights, or that lost all copies of an expert: they are
  // safe, and get nowhere.
  bool IsWhole(int group);

  // No more faults: everybody lives, hears each other and has the time it needs. A last new controller takes over,
  // which moves nothing by itself.
  void Calm();

 private:
  void EndEngine(int group, int rank);
  void HoldDown(int group, int rank);
  void ReplaceMaybe(int group, int rank);
  // Whoever watches over processes ends those whose engines learnt that no view has them.
  void WatchExcluded();
  // In the calm: what is left of ranks that could not be expelled.
  void ReplaceStuck();
  void AgentDied(int group, int rank);
  void ControllerDied(int idx);
  // Verified copies that are what they should be.
  int NumGood(int group, LayerId layer, ExpertId expert);
  void StartAgent(int group, int rank);
  RegionModel* FreshRegion(int group, int rank);
  Network::Handlers MakeHandlers();

  World world_;
  std::vector<std::unique_ptr<SimAgent>> agents_;
  std::vector<std::unique_ptr<SimController>> controllers_;
  std::vector<bool> whole_;         // by group
  std::vector<uint64_t> versions_;  // of weights, by agent
  uint64_t num_incarnations_ = 0;
  absl::btree_set<int> held_down_;  // agents that do not come back by themselves
};

}  // namespace evenkeel::sim
