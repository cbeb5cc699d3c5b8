// SPDX-License-Identifier: Apache-2.0
//
// HeldExperts: what this rank's own slots hold, and copies of it at a bounded pace: what stores are filled from.
//
// Threads:   none of its own; any one, beside the agent's strand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/status.h"

#include "agent/stores/store_identity.h"
#include "algos/base/ids.h"
#include "engine/region/agent_region.h"

namespace evenkeel::agent {

StoreIdentity IdentityOf(const engine::AgentRegion& region);

struct HeldExpert {
  LayerId layer;
  ExpertId expert;
  SlotIdx slot;
  uint64_t generation = 0;
  uint64_t fingerprint = 0;
};
// What is verified, ascending by layer and expert, each expert of a layer once.
std::vector<HeldExpert> HeldExpertsOf(const engine::AgentRegion& region);

// Waits until so many bytes may be copied; false where all is to end.
using Pace = std::function<bool(uint64_t bytes)>;
inline constexpr uint64_t kPacedPiece = 64 * 1024;

// Gives the sink the expert's bytes from first to last, tensor by tensor, a piece at a time; all pieces of a tensor but
// its last are of kPacedPiece bytes. kCancelled: told to end; kAborted: the slot was given other content meanwhile;
// otherwise what the sink says.
using Sink = std::function<absl::Status(size_t tensor, uint64_t offset, std::span<const std::byte> from)>;
absl::Status CopyHeld(const engine::AgentRegion& region, const HeldExpert& held, const Pace& pace, const Sink& sink);

}  // namespace evenkeel::agent
