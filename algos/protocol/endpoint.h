// SPDX-License-Identifier: Apache-2.0
//
// Endpoint: where weights can be read, as agents tell the controller and the controller tells other agents: a plain value.
#pragma once

#include <string>

namespace evenkeel {

// How a rank's weights can be read, or a store of its host. `address` is opaque to all but the transport of that name.
struct Endpoint {
  std::string transport;  // "local", "ucx", ...; of stores "pool" and "snapshot"
  std::string host;       // equal for ranks that share memory
  std::string address;
  // By which readers are told apart from others (docs/security.md); known to the one that offers and the controller
  // alone, never sent to other agents. Empty: whoever has the address may read.
  std::string secret = {};
  bool is_store() const { return transport == "pool" || transport == "snapshot"; }
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

}  // namespace evenkeel
