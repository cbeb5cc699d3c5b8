// SPDX-License-Identifier: Apache-2.0
//
// SimController: one controller process: a Coordinator in a shell made of the simulation's network and store.
//
// Every start is a new process with a fresh Coordinator and the store's term. Plans are computed by the policies
// themselves and come back a while later.
//
// Checks:    no move is ordered over the last copy of an expert that members have.
// Threads:   none.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"

#include "controller/core/coordinator.h"
#include "controller/core/event.h"
#include "tests/sim/strand.h"
#include "tests/sim/world.h"

namespace evenkeel::sim {

// In calm the loops are off: what moves then was ordered.
controller::CoordinatorSettings SettingsOf(const Options& options, uint32_t stored_term, bool calm);

class SimController {
 public:
  using ControllerStrand = Strand<controller::Coordinator, controller::Event, controller::Effect, controller::Tick>;

  // `on_death` is called whenever the process has ended.
  SimController(World* world, int idx, std::function<void()> on_death);

  void Start();
  void Kill();
  bool running() const { return strand_.running(); }
  ControllerStrand& strand() { return strand_; }
  const controller::Coordinator* coordinator() const { return strand_.machine(); }

  void Admit(int group, const std::string& operation_id, int rank);
  void Drain(int group, const std::string& operation_id, int rank, absl::Duration grace);
  void Rearrange(int group, const std::string& operation_id, const std::string& policy);

  // Whether this process has published a replica of the expert while all ranks had this version of the weights, and so
  // knows its fingerprint.
  bool HasPublished(int group, LayerId layer, ExpertId expert, uint64_t version) const {
    return published_.contains({group, layer, expert, version});
  }

  // Of the network.
  void OnMessage(StreamId stream, AgentMessage message);
  void OnClosed(StreamId stream);

 private:
  void Hears(const controller::Event& event);
  void NoteView(int group, const View& view);
  // The view has nobody that the one before it had not, and lacks some.
  bool LeavesOut(int group, const ViewUpdate& update);
  // No move is ordered over the last copy of an expert that members have (rule 26).
  void CheckOverwritten(int group, const MoveOrder& order);
  void NotePublished(int group, const MapsUpdate& update);
  void MutateUp(AgentMessage& message) const;
  // Whether the message is not to be sent.
  bool MutateDown(const controller::SendToAgent& effect);
  int GroupOf(StreamId stream) const { return world_->network.agent_of(stream) / world_->options.num_ranks; }
  void Send(const controller::SendToAgent& effect);
  void CarryOut(controller::Effect& effect);
  void Do(controller::SendToAgent& effect);
  void Do(const controller::CloseSession& effect);
  void Do(const controller::ComputePlan& effect);
  void Do(const controller::PersistOperation& effect);
  void Do(const controller::PersistLoad&) {}  // a successor counts anew
  void Do(const controller::Note& effect);
  void Do(const controller::PersistTerm& effect);
  void Do(const controller::StepDown& effect);
  Where where() const { return {-1, idx_}; }

  World* const world_;
  const int idx_;
  const std::function<void()> on_death_;
  ControllerStrand strand_;
  uint64_t process_ = 0;
  absl::btree_set<std::tuple<int, LayerId, ExpertId, uint64_t>> published_;  // the last: version of the weights
  absl::btree_map<std::pair<int, Member>, uint64_t> versions_;               // of weights, as attached
  absl::btree_map<int, View> views_before_;                                  // by group, the one before the newest
  absl::btree_map<int, View> views_sent_;                                    // by group, the newest
  absl::btree_map<StreamId, Quiesced> quiesced_;                             // what each stream said last, for a mutant
  absl::btree_map<uint64_t, uint64_t> orders_;       // move id -> expected fingerprint, for a mutant
  std::vector<controller::SendToAgent> views_held_;  // by a mutant, until maps were sent
};

}  // namespace evenkeel::sim
