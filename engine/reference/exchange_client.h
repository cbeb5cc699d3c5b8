// SPDX-License-Identifier: Apache-2.0
//
// ExchangeClient: how one lane of a rank asks others: at most one request to each, all of them at once.
//
// A request outlives its connection: when that breaks, a new one is tried and the request sent again, until it is
// answered, refused or given up. Who is asked stays the same incarnation throughout: another one is a refusal.
// Connections are made when somebody is to be asked, so ranks may come and go.
//
// Threads:   one: its lane's.
// Waiting:   Poll only, and never longer than told.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "engine/reference/exchange.h"

namespace evenkeel::engine {

class ExchangeClient {
 public:
  enum class State {
    kIdle,      // nothing was asked
    kWaiting,   // for an answer, or for somebody to ask
    kAnswered,  // answer() holds it until Finish
    kRefused,   // refusal() says why
  };
  static constexpr uint64_t kAnyIncarnation = UINT64_MAX;

  struct Request {
    uint64_t incarnation = kAnyIncarnation;  // who is meant
    int64_t ticket = 0;
    uint64_t epoch = 0;
    int phase = 0;
    int layer = 0;
    std::span<const SlotGroup> groups;
    std::span<const float> x;
  };

  // Requires: `directory` outlives the client.
  ExchangeClient(const RunDirectory& directory, const Greeting& self);

  // Connects to the first ranks where that is due and takes greetings in; those of which none has come yet.
  std::vector<int> Greet(absl::Time now);
  // As the peer greeted; zero before.
  uint64_t epoch_of(int rank) const { return peers_[static_cast<size_t>(rank)].greeting.epoch; }
  // Why the peer refused our greeting or does not serve any more, or we refused its; empty if none of these.
  const std::string& enmity(int rank) const { return peers_[static_cast<size_t>(rank)].enmity; }

  // Requires: state(rank) is kIdle and rank is not this one.
  void Ask(int rank, const Request& request, absl::Time now);
  // Waits at most `timeout` for an answer, a refusal or somebody to listen again.
  void Poll(absl::Duration timeout, absl::Time now);
  State state(int rank) const { return peers_[static_cast<size_t>(rank)].state; }
  // Valid while kAnswered.
  std::span<const float> answer(int rank) const { return peers_[static_cast<size_t>(rank)].answer; }
  const std::string& refusal(int rank) const { return peers_[static_cast<size_t>(rank)].refusal; }
  // Back to kIdle. A request that is still waiting is taken back by closing its connection.
  void Finish(int rank);

  // Tells all connected peers that nothing more will be asked.
  void SayBye();
  // Closes all connections for good.
  void Cut();

  // From any thread.
  uint64_t num_resent() const { return num_resent_; }

 private:
  struct Peer {
    Connection connection;
    Greeting greeting;
    bool greeted = false;  // on this connection
    std::string enmity;
    absl::Time next_try = absl::InfinitePast();
    State state = State::kIdle;
    // The open request.
    uint64_t wanted = kAnyIncarnation;
    MessageHeader header;
    std::vector<std::byte> payload;
    size_t num_answer_values = 0;
    std::vector<float> answer;
    std::string refusal;
  };

  void TryConnect(int rank, absl::Time now);
  void SendRequest(Peer& peer);
  void Take(Peer& peer);
  void TakeWelcome(Peer& peer, const Message& message);

  const RunDirectory& directory_;
  const Greeting self_;
  std::vector<Peer> peers_;
  uint32_t serial_ = 0;
  std::atomic<uint64_t> num_resent_ = 0;
  bool cut_ = false;
};

}  // namespace evenkeel::engine
