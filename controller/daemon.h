// SPDX-License-Identifier: Apache-2.0
//
// Daemon: a whole controller in one object: strand, conductor, store, planner, gRPC server with health and
// reflection, HTTP port.
//
// Threads:   Start, Stop and the destructor from one thread; gRPC's own threads, the strand and the planner
//            inside. `on_end` is called on the strand, at most once, and must not stop the daemon itself.
// Owns:      everything that it starts; after Stop no thread, port or file of it is left.
// Errors:    Start returns what is wrong with store or address.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "controller/config.h"

namespace evenkeel::controller {

class Daemon {
 public:
  struct Options {
    ControllerSettings settings;
    // The controller cannot go on: its term cannot be stored, or another controller leads.
    std::function<void(absl::Status)> on_end;
  };

  static absl::StatusOr<std::unique_ptr<Daemon>> Start(Options options);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // HOST:PORT with the port that is really served.
  const std::string& address() const;
  int port() const;
  // HOST:PORT of the HTTP port; empty: there is none.
  std::string http_address() const;

  // Ends calls and streams with UNAVAILABLE, then everything else. Repeating it does nothing.
  void Stop();

 private:
  struct State;

  explicit Daemon(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace evenkeel::controller
