// SPDX-License-Identifier: Apache-2.0
//
// PoolReader: reads experts of this host's pool by mapping it, and what an agent that offers a pool says of it.
//
// The address of a "pool" endpoint is the file's path, `|`, and how other hosts read it by UCX (nothing: they cannot).
//
// Threads:   none of its own: see StoreTransport.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "agent/stores/store_identity.h"
#include "agent/stores/store_transport.h"
#include "agent/transport.h"

namespace evenkeel::agent {

struct PoolAddress {
  std::string path;
  std::string ucx;  // as a "ucx" endpoint's; empty: of this host alone

  friend bool operator==(const PoolAddress&, const PoolAddress&) = default;
};
std::string RenderPoolAddress(const PoolAddress& address);
// kFailedPrecondition where it is not one.
absl::StatusOr<PoolAddress> ParsePoolAddress(const std::string& text);

// For StoreTransport::Options::open.
absl::StatusOr<std::unique_ptr<StoreReader>> OpenPoolReader(const StoreIdentity& identity,
                                                            const TransferRequest& request);

}  // namespace evenkeel::agent
