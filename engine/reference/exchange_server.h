// SPDX-License-Identifier: Apache-2.0
//
// ExchangeServer: what a rank does for others: takes their requests from its socket and answers them.
//
// Threads:   Poll, one thread. The others: any.
// Owns:      the rank's socket file, removed at the end, and all connections that peers opened.
// Order:     requests are answered one after the other, in the order in which their connections became readable.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "engine/reference/exchange.h"

namespace evenkeel::engine {

class ExchangeServer {
 public:
  struct Request {
    Greeting peer;  // as it greeted
    int64_t ticket = 0;
    uint64_t epoch = 0;
    int layer = 0;
    std::span<const SlotGroup> groups;
    const float* x = nullptr;  // [num_rows][hidden_size]
    int num_rows = 0;
    // The asker has closed the connection by now: nobody waits for an answer.
    std::function<bool()> given_up;
  };
  // Fills y[num_rows][hidden_size]. An error is sent back in its words; kCancelled: nothing is sent.
  using Serve = std::function<absl::Status(const Request& request, float* y)>;

  // Requires: `directory` outlives the server.
  static absl::StatusOr<std::unique_ptr<ExchangeServer>> Create(const RunDirectory& directory, const Greeting& self,
                                                                Serve serve);
  ~ExchangeServer();

  // Waits at most `timeout` for something to do, and does it.
  void Poll(absl::Duration timeout);
  // Ends a Poll that waits.
  void Wake();
  // Closes the socket and all connections for good.
  void Cut();

  // What the greeting says from now on.
  void SetEpoch(uint64_t epoch) { epoch_.store(epoch); }
  // Peers with an open connection that have not said bye.
  int num_peers_present() const { return num_peers_present_.load(); }

 private:
  struct Peer {
    Connection connection;
    Greeting greeting;
    bool greeted = false;
    bool said_bye = false;
  };

  ExchangeServer(const RunDirectory& directory, const Greeting& self, Serve serve, int listener, int wake);
  void Accept();
  void Handle(Peer& peer);
  void Greet(Peer& peer, const Message& message);
  void Answer(Peer& peer, const Message& message);

  const RunDirectory& directory_;
  const Greeting self_;
  const Serve serve_;
  int listener_;
  const int wake_;
  std::list<Peer> peers_;
  std::vector<float> results_;
  std::atomic<uint64_t> epoch_ = 0;
  std::atomic<int> num_peers_present_ = 0;
};

}  // namespace evenkeel::engine
