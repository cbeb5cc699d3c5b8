// SPDX-License-Identifier: Apache-2.0
//
// Scripts for the agent's core: a small group, typed events in, effects out as text.
//
// The group has 2 layers of 4 experts on 2 ranks with 3 slots each. At epoch 0.0 the slots of a layer hold the experts
// 0 1 2 | 2 3 0; the agent under test is rank 1's, so its own slots are 3, 4 and 5.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "agent/core/event.h"
#include "agent/core/worker.h"
#include "algos/layer_map.h"
#include "algos/protocol/messages.h"

namespace evenkeel::agent::script {

inline constexpr uint64_t kIncarnation = 77;

GroupInfo Group(CountPlace count_place = CountPlace::kAfterDispatch);
// A region as its engine makes it: everything verified, nothing counted. Fingerprint of expert e of layer l:
// 100 * l + e.
RegionState Region(CountPlace count_place = CountPlace::kAfterDispatch);
uint64_t FingerprintOf(LayerId layer, ExpertId expert);

// The even map of a layer whose slots hold `experts`; -1: blank.
algos::LayerMap MapOf(std::vector<int> experts);
// Maps for the given layers, over `held`; full if `held` is null (then all layers must be given).
MapsUpdate Update(Epoch epoch, const Maps* held, std::vector<std::pair<int, algos::LayerMap>> layers,
                  uint64_t view_number = 0);
// Expert 1 into a slot of layer 0, from slot 1 of rank 0 and, with two sources, from slot 2 of rank 0 as well.
MoveOrder Order(uint64_t move_id, int slot, uint64_t generation, Epoch retired_since, int num_sources = 1);
CancelMove CancelOf(const MoveOrder& order);

std::string Describe(const Effect& effect);
// One effect after the other, each on a line of its own.
std::string Describe(const Effects& effects);

// A worker with its clock, its stream and an engine that quiesces when told.
class Agent {
 public:
  explicit Agent(RegionState region = Region()) : worker(std::move(region)) {}

  std::string Give(const Event& event) { return Describe(worker.Step(now, event)); }
  std::string Hear(ControllerMessage message) { return Give(MessageReceived{std::move(message), stream}); }
  std::string Pass(absl::Duration duration) {
    now += duration;
    return Give(Tick{});
  }
  // Opens a stream and is welcomed, without reports or scrubbing unless `settings` say otherwise.
  std::string Attach(uint32_t term, AgentSettings settings = Quiet());
  // Has layer 0 held by `experts` at `epoch`, written and quiesced; the base is what the worker holds.
  void Settle(Epoch epoch, std::vector<int> experts);
  std::string Observe(Epoch quiesced, uint64_t view = 0);
  // Answers a ReadCounters.
  std::string Count(std::vector<uint64_t> tokens_of_slot = std::vector<uint64_t>(6, 0));
  // Ends an attempt with the given content.
  std::string End(uint64_t move_id, int attempt, uint64_t fingerprint);
  std::string EndBadly(uint64_t move_id, int attempt, absl::Status status);

  static AgentSettings Quiet();

  Worker worker;
  absl::Time now = absl::UnixEpoch() + absl::Hours(1);
  uint64_t stream = 0;
};

}  // namespace evenkeel::agent::script
