// SPDX-License-Identifier: Apache-2.0
//
// MakeTransports: the transports that an agent offers and reads by.
//
// Errors:    kInvalidArgument: no transport of that name, or no such fault; otherwise why a forced transport cannot be
//            made. One that is not forced is left out with a warning.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "agent/transport.h"
#include "engine/region/agent_region.h"

namespace evenkeel::agent {

struct TransportOptions {
  std::string forced;  // between ranks this one alone; empty: all that this host can do
  std::string fault;   // each of them misbehaves like that (agent/faulty_transport.h); empty: not
  std::string host;    // as whose the rank is offered; empty: HostIdentity()
};

// Those between ranks, and those that read stores. The region outlives them.
absl::StatusOr<std::vector<std::unique_ptr<Transport>>> MakeTransports(const engine::AgentRegion& region,
                                                                       const TransportOptions& options);

}  // namespace evenkeel::agent
