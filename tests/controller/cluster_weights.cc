// SPDX-License-Identifier: Apache-2.0
//
// Agents of a Cluster whose engines change their weights (docs/protocol.md, rule 22).
#include <optional>
#include <utility>

#include "catch2/catch.hpp"

#include "tests/controller/cluster.h"

namespace evenkeel::controller {

void Cluster::SuspendWeights(int rank) {
  FakeAgent& agent = agents[static_cast<size_t>(rank)];
  agent.suspended = true;
  agent.released = false;
  for (const auto& [key, order] : std::exchange(agent.moves, {})) {
    RecordOf(order.layer, order.slot) = {SlotState::kFree, ExpertId(), order.generation, 0};
    Send(rank, MoveFailed{order.move_id, order.layer, order.slot, order.generation,
                          absl::AbortedError("the engine is being suspended"), false, RankId()});
  }
  EngineStatus status{.called_begin_step = true, .oldest_open_step = {}, .waiting_for = {}};
  status.suspended = true;
  Send(rank, status);
}

void Cluster::ResumeWeights(int rank, uint64_t version) {
  FakeAgent& agent = agents[static_cast<size_t>(rank)];
  REQUIRE(agent.released);
  agent.suspended = agent.released = false;
  agent.weights_version = version;
  for (size_t i = 0; i < agent.slots.size(); ++i) {
    SlotRecord& record = agent.slots[i];
    ++record.generation;
    const LayerId layer(static_cast<int>(i) / options.shape.slots_per_rank);
    if (record.state == SlotState::kVerified) record.fingerprint = FingerprintOf(layer, record.expert, version);
  }
  DetachAgent(rank);
  AttachAgent(rank);
}

}  // namespace evenkeel::controller
