// SPDX-License-Identifier: Apache-2.0
//
// ExchangeServer: what a rank does for others: takes their requests from its socket and answers them.
//
// Threads:   Poll and Cut, one thread. The others: any.
// Owns:      the rank's socket file, removed at the end, and all connections that peers opened.
// Order:     requests are answered one after the other, in the order in which their connections became readable.
// Limits:    Limits, of connections that have not greeted: the oldest is closed for a further one, each at its deadline.
//            Where the process has no descriptor left, connections wait in the socket and are looked at again later.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "engine/reference/exchange.h"

namespace evenkeel::engine {

class ExchangeServer {
 public:
  struct Request {
    Greeting peer;  // as it greeted
    int64_t ticket = 0;
    uint64_t epoch = 0;
    int phase = 0;
    int layer = 0;
    std::span<const SlotGroup> groups;
    const float* x = nullptr;  // [num_rows][hidden_size]
    int num_rows = 0;
    // The asker has closed the connection by now: nobody waits for an answer.
    std::function<bool()> given_up;
  };
  // Fills y[num_rows][hidden_size]. An error is sent back in its words; kCancelled: nothing is sent.
  using Serve = std::function<absl::Status(const Request& request, float* y)>;

  struct Limits {
    absl::Duration greet_within = absl::Seconds(5);
    size_t num_ungreeted_max = 4096;  // > 0
  };
  // An engine that does not fit this one, as either side found.
  struct Misfit {
    int rank = -1;
    std::string what;  // differs
  };

  // Requires: `directory` outlives the server.
  static absl::StatusOr<std::unique_ptr<ExchangeServer>> Create(const RunDirectory& directory, const Greeting& self,
                                                                Serve serve, const Limits& limits);
  static absl::StatusOr<std::unique_ptr<ExchangeServer>> Create(const RunDirectory& directory, const Greeting& self,
                                                                Serve serve) {
    return Create(directory, self, std::move(serve), Limits());
  }
  ~ExchangeServer();

  // Waits at most `timeout` for something to do, and does it.
  void Poll(absl::Duration timeout);
  // Ends a Poll that waits.
  void Wake();
  // Closes the socket and all connections for good.
  void Cut();
  // From now on tells everybody `why` this engine does not serve: those connected, and those yet to come.
  void Refuse(std::string why) ABSL_LOCKS_EXCLUDED(mutex_);

  // The first that greeted or refused us.
  std::optional<Misfit> misfit() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether `rank` knows that it and this engine do not work together.
  bool HasTold(int rank) const ABSL_LOCKS_EXCLUDED(mutex_);

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
    absl::Time greet_until;
  };

  ExchangeServer(const RunDirectory& directory, const Greeting& self, Serve serve, const Limits& limits, int listener,
                 int wake);
  void Accept(absl::Time now);
  // Closes what is not to be kept, and counts the rest.
  void Sweep(absl::Time now) ABSL_LOCKS_EXCLUDED(mutex_);
  void TellRefusal(Peer& peer, const std::string& why) ABSL_LOCKS_EXCLUDED(mutex_);
  void NoteMisfit(const Peer& peer, const std::string& what) ABSL_LOCKS_EXCLUDED(mutex_);
  std::string refusal() const ABSL_LOCKS_EXCLUDED(mutex_);
  void Handle(Peer& peer);
  void Greet(Peer& peer, const Message& message);
  void Answer(Peer& peer, const Message& message);

  const RunDirectory& directory_;
  const Greeting self_;
  const Serve serve_;
  const Limits limits_;
  int listener_;
  const int wake_;
  std::list<Peer> peers_;                              // by age
  absl::Time accept_again_at_ = absl::InfinitePast();  // after having had no descriptor left
  std::vector<float> results_;
  std::atomic<uint64_t> epoch_ = 0;
  std::atomic<int> num_peers_present_ = 0;
  mutable absl::Mutex mutex_;
  std::string refusal_ ABSL_GUARDED_BY(mutex_);  // empty: none
  std::optional<Misfit> misfit_ ABSL_GUARDED_BY(mutex_);
  std::vector<bool> told_ ABSL_GUARDED_BY(mutex_);  // [num_ranks]
};

}  // namespace evenkeel::engine
