// SPDX-License-Identifier: Apache-2.0
//
// SimController: one controller process: a Coordinator in a shell made of the simulation's network and store.
//
// Every start is a new process with a fresh Coordinator and the store's term. Plans are computed by the policies
// themselves and come back a while later.
//
// Threads:   none.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/container/btree_map.h"

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

  // Of the network.
  void OnMessage(StreamId stream, AgentMessage message);
  void OnClosed(StreamId stream);

 private:
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
  absl::btree_map<StreamId, Quiesced> quiesced_;  // what each stream said last, for a mutant
};

}  // namespace evenkeel::sim
