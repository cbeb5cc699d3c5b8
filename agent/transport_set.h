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

// All that this host can do, or `forced` alone. With a `fault` (agent/faulty_transport.h) each of them misbehaves.
// The region outlives them.
absl::StatusOr<std::vector<std::unique_ptr<Transport>>> MakeTransports(const engine::AgentRegion& region,
                                                                       const std::string& forced,
                                                                       const std::string& fault);

}  // namespace evenkeel::agent
