// SPDX-License-Identifier: Apache-2.0
//
// SimAgent: the agent of one rank: a Worker in a shell made of the simulation's region, engine, network, transfers.
//
// The shell does what the daemon's does, the wait of rule 19 included, and what the run's mutant makes it do.
//
// Checks:    epochs, views, terms and generations of a region only grow; maps come with their view or after it;
//            without losses nobody is expelled whose engine lives; load reports add up.
// Threads:   none.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/time/time.h"

#include "agent/core/event.h"
#include "agent/core/worker.h"
#include "tests/sim/strand.h"
#include "tests/sim/world.h"

namespace evenkeel::sim {

class SimAgent {
 public:
  using AgentStrand = Strand<agent::Worker, agent::Event, agent::Effect, agent::Tick>;

  // `on_death` is called whenever the process has ended.
  SimAgent(World* world, int group, int rank, std::function<void()> on_death);

  // The process begins for `region`, which may have had an agent before.
  void Start(RegionModel* region);
  void Kill();
  bool running() const { return process_ != 0; }
  RegionModel* region() { return region_; }
  AgentStrand& strand() { return strand_; }
  const AgentStrand& strand() const { return strand_; }

  // The region's words changed; the agent looks at them soon.
  void RegionChanged();

  // Its host sees that the engine of another rank has ended.
  void PeerEnded(const Member& member);
  // Says until then that its engine waits for everybody else.
  void BlameOthers(absl::Time until) { blames_until_ = until; }
  bool blames() const { return blames_until_ > world_->queue.now(); }

  // Of the network.
  void OnConnected(StreamId stream, bool opened);
  void OnMessage(StreamId stream, ControllerMessage message);
  void OnClosed(StreamId stream);

 private:
  void CarryOut(agent::Effect& effect);
  void Do(agent::SendToController& effect);
  void Do(const agent::CloseStream& effect);
  void Do(const agent::StoreTerm& effect);
  void Do(const agent::WriteMaps& effect);
  void Do(const agent::StoreView& effect);
  void Do(const agent::StoreSlot& effect);
  void Do(const agent::StartTransfer& effect);
  void Do(const agent::CancelTransfer& effect);
  void Do(const agent::NotifyPostMove& effect);
  void Do(const agent::FingerprintSlot& effect);
  void Do(const agent::ReadCounters& effect);
  void Do(const agent::GrantSuspension& effect);

  void MutateUp(AgentMessage& message);
  void MutateDown(ControllerMessage& message);
  void MutateAgain(ControllerMessage& message) const;
  void MutateSlots(Attach& attach) const;
  // Of what is in a slot after a copy.
  uint64_t MutatedFingerprint(uint64_t fingerprint, LayerId layer, ExpertId expert) const;
  // Orders and cancels may come twice, the second time late, behind others (rule 7).
  void ComeAgainMaybe(StreamId stream, const ControllerMessage& message);

  void Begin();
  void ConnectLater();
  void Observe();
  // The engine has resumed: what it made of its slots is taken over as from an agent before.
  void TakeOverAnew();
  void End();
  agent::EngineObserved ReadEngine();
  void LookAtPeers();
  void OfferStores();
  void AcknowledgeRefreshed();
  void HoldPending(std::shared_ptr<const agent::Maps> maps);
  // Runs `action` after `delay` if this process still lives then.
  void Soon(absl::Duration delay, std::function<void()> action);
  EngineModel& engines() { return *world_->engines[static_cast<size_t>(group_)]; }
  Where where() const { return {group_, rank_}; }
  int agent_idx() const { return world_->AgentOf(group_, rank_); }
  // Whether the view of this rank's region names it.
  bool WasMember(const RegionModel& region) const;
  void Violation(const std::string& text);

  World* const world_;
  const int group_;
  const int rank_;
  const std::function<void()> on_death_;
  AgentStrand strand_;
  RegionModel* region_ = nullptr;
  uint64_t process_ = 0;  // number of this life; 0: dead
  uint64_t num_processes_ = 0;
  StreamId stream_ = 0;
  int failed_connects_ = 0;
  bool observes_soon_ = false;
  uint64_t suspension_ = 0;  // of the engine, that this process knows of; 0: none
  absl::Time blames_until_ = absl::InfinitePast();
  std::shared_ptr<const agent::Maps> pending_;              // maps that the region does not have yet
  std::vector<agent::PostMoveAcknowledged> refreshes_;      // asked of the engine
  std::optional<std::vector<SlotRecord>> first_inventory_;  // for the mutant
  std::vector<uint64_t> last_counters_;                     // for the mutant
  absl::btree_set<std::pair<LayerId, SlotIdx>> denied_;     // for the mutant
};

}  // namespace evenkeel::sim
