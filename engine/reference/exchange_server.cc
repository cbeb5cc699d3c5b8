// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/exchange_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace evenkeel::engine {
namespace {

// A listener that cannot be accepted from stays readable, so that looking at it without a pause would spin.
constexpr absl::Duration kAcceptAgainAfter = absl::Milliseconds(100);

int PollTimeoutMs(absl::Duration timeout) {
  return static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(timeout, absl::Milliseconds(1))));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ExchangeServer>> ExchangeServer::Create(const RunDirectory& directory,
                                                                       const Greeting& self, Serve serve,
                                                                       const Limits& limits) {
  const absl::StatusOr<int> listener = directory.Listen(self.rank);
  if (!listener.ok()) return listener.status();
  const int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake < 0) {
    close(*listener);
    unlink(directory.SocketPath(self.rank).c_str());
    return absl::ResourceExhaustedError(absl::StrCat("make an event: ", std::strerror(errno)));
  }
  return std::unique_ptr<ExchangeServer>(
      new ExchangeServer(directory, self, std::move(serve), limits, *listener, wake));
}

ExchangeServer::ExchangeServer(const RunDirectory& directory, const Greeting& self, Serve serve, const Limits& limits,
                               int listener, int wake)
    : directory_(directory),
      self_(self),
      serve_(std::move(serve)),
      limits_(limits),
      listener_(listener),
      wake_(wake),
      told_(static_cast<size_t>(self.num_ranks), false) {}

ExchangeServer::~ExchangeServer() {
  Cut();
  close(wake_);
}

void ExchangeServer::Cut() {
  if (listener_ < 0) return;
  unlink(directory_.SocketPath(self_.rank).c_str());
  close(listener_);
  listener_ = -1;
  peers_.clear();
  num_peers_present_ = 0;
}

void ExchangeServer::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t count = write(wake_, &one, sizeof(one));
}

void ExchangeServer::Refuse(std::string why) {
  {
    absl::MutexLock lock(&mutex_);
    if (refusal_.empty()) refusal_ = std::move(why);
  }
  Wake();
}

std::string ExchangeServer::refusal() const {
  absl::MutexLock lock(&mutex_);
  return refusal_;
}

std::optional<ExchangeServer::Misfit> ExchangeServer::misfit() const {
  absl::MutexLock lock(&mutex_);
  return misfit_;
}

bool ExchangeServer::HasTold(int rank) const {
  absl::MutexLock lock(&mutex_);
  return told_[static_cast<size_t>(rank)];
}

void ExchangeServer::NoteMisfit(const Peer& peer, const std::string& what) {
  absl::MutexLock lock(&mutex_);
  const int rank = peer.greeting.rank;
  if (rank >= 0 && rank < self_.num_ranks) told_[static_cast<size_t>(rank)] = true;
  if (!misfit_.has_value()) misfit_ = Misfit{.rank = rank, .what = what};
}

void ExchangeServer::TellRefusal(Peer& peer, const std::string& why) {
  peer.connection.SendText({.kind = MessageKind::kRefused}, why);
  peer.connection.Close("refused");
  const int rank = peer.greeting.rank;
  if (!peer.greeted || rank < 0 || rank >= self_.num_ranks) return;
  absl::MutexLock lock(&mutex_);
  told_[static_cast<size_t>(rank)] = true;
}

void ExchangeServer::Poll(absl::Duration timeout) {
  absl::Time now = absl::Now();
  const bool accepts = now >= accept_again_at_;
  if (!accepts) timeout = std::min(timeout, accept_again_at_ - now);
  std::vector<pollfd> fds = {{wake_, POLLIN, 0}, {accepts ? listener_ : -1, POLLIN, 0}};
  std::vector<Peer*> polled;
  for (Peer& peer : peers_) {
    const short events = peer.connection.has_unsent() ? POLLIN | POLLOUT : POLLIN;
    fds.push_back({peer.connection.fd(), events, 0});
    polled.push_back(&peer);
    if (!peer.greeted) timeout = std::clamp(peer.greet_until - now, absl::ZeroDuration(), timeout);
  }
  const int num_ready = poll(fds.data(), fds.size(), PollTimeoutMs(timeout));
  now = absl::Now();
  if (num_ready <= 0) return Sweep(now);
  if (fds[0].revents != 0) {
    uint64_t count;
    [[maybe_unused]] const ssize_t bytes = read(wake_, &count, sizeof(count));
  }
  if (fds[1].revents != 0) Accept(now);
  for (size_t i = 0; i < polled.size(); ++i) {
    if ((fds[i + 2].revents & POLLOUT) != 0) polled[i]->connection.Flush();
    if ((fds[i + 2].revents & (POLLIN | POLLHUP | POLLERR)) != 0) Handle(*polled[i]);
    if (listener_ < 0) return;  // a request made us cut the connections
  }
  Sweep(now);
}

void ExchangeServer::Sweep(absl::Time now) {
  const std::string why = refusal();
  size_t num_ungreeted = 0;
  for (auto peer = peers_.rbegin(); peer != peers_.rend(); ++peer) {
    if (!why.empty() && peer->greeted && peer->connection.open()) TellRefusal(*peer, why);
    if (peer->greeted || !peer->connection.open()) continue;
    if (now >= peer->greet_until) peer->connection.Close("it did not greet in time");
    if (++num_ungreeted > limits_.num_ungreeted_max) peer->connection.Close("too many did not greet");
  }
  peers_.remove_if([](const Peer& peer) { return !peer.connection.open(); });
  std::vector<bool> present(static_cast<size_t>(self_.num_ranks));
  for (const Peer& peer : peers_) {
    if (peer.greeted && !peer.said_bye) present[static_cast<size_t>(peer.greeting.rank)] = true;
  }
  int num_present = 0;
  for (const bool is_present : present) num_present += is_present ? 1 : 0;
  num_peers_present_ = num_present;
}

void ExchangeServer::Accept(absl::Time now) {
  for (size_t i = 0; i < limits_.num_ungreeted_max; ++i) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
      const bool is_out_of_room = errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS;
      if (is_out_of_room) accept_again_at_ = now + kAcceptAgainAfter;
      return;
    }
    Peer& peer = peers_.emplace_back();
    peer.connection = Connection(fd);
    peer.greet_until = now + limits_.greet_within;
  }
}

void ExchangeServer::Handle(Peer& peer) {
  peer.connection.ReadAvailable();
  while (const std::optional<Message> message = peer.connection.Next()) {
    if (!peer.greeted) {
      Greet(peer, *message);
    } else if (message->header.kind == MessageKind::kRequest) {
      Answer(peer, *message);
    } else if (message->header.kind == MessageKind::kBye) {
      peer.said_bye = true;
    } else if (message->header.kind == MessageKind::kRefused) {
      NoteMisfit(peer, message->text());
      peer.connection.Close("the peer refused");
    } else {
      peer.connection.Close("a message out of turn");
    }
    if (listener_ < 0) return;
  }
}

void ExchangeServer::Greet(Peer& peer, const Message& message) {
  if (message.header.kind != MessageKind::kHello) return TellRefusal(peer, "expected a greeting first");
  const absl::StatusOr<Greeting> greeting = ParseGreeting(message);
  if (!greeting.ok()) return TellRefusal(peer, std::string(greeting.status().message()));
  peer.greeting = *greeting;
  peer.greeted = true;
  if (const absl::Status status = CheckPeer(self_, *greeting); !status.ok()) {
    NoteMisfit(peer, std::string(status.message()));
    return TellRefusal(peer, std::string(status.message()));
  }
  if (const std::string why = refusal(); !why.empty()) return TellRefusal(peer, why);
  Greeting self = self_;
  self.epoch = epoch_.load();
  const std::span<const std::byte> part = BytesOf(self);
  peer.connection.Send({.kind = MessageKind::kWelcome}, {&part, 1});
}

void ExchangeServer::Answer(Peer& peer, const Message& message) {
  const MessageHeader& header = message.header;
  MessageHeader reply{
      .kind = MessageKind::kAnswer, .serial = header.serial, .ticket = header.ticket, .layer = header.layer};
  const absl::StatusOr<std::vector<SlotGroup>> groups = ParseGroups(message, self_.hidden_size);
  if (!groups.ok()) return peer.connection.Close(std::string(groups.status().message()));
  // The rows stay where they are while the connection is looked at again.
  const auto given_up = [&peer] {
    char byte;
    const ssize_t count = recv(peer.connection.fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return count == 0 || (count < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
  };
  Request request{.peer = peer.greeting,
                  .ticket = header.ticket,
                  .epoch = header.epoch,
                  .phase = header.phase,
                  .layer = header.layer,
                  .groups = *groups,
                  .x = nullptr,
                  .num_rows = 0,
                  .given_up = given_up};
  request.x = reinterpret_cast<const float*>(message.payload.data() + groups->size() * sizeof(SlotGroup));
  for (const SlotGroup& group : *groups) request.num_rows += group.num_rows;
  const size_t values = static_cast<size_t>(request.num_rows) * static_cast<size_t>(self_.hidden_size);
  results_.resize(values);
  absl::Status status = header.target_incarnation == self_.incarnation
                            ? serve_(request, results_.data())
                            : absl::FailedPreconditionError("another incarnation was meant");
  if (listener_ < 0 || status.code() == absl::StatusCode::kCancelled) return;
  if (!status.ok()) {
    reply.kind = MessageKind::kRefused;
    return peer.connection.SendText(reply, std::string(status.message()));
  }
  const std::span<const std::byte> part = std::as_bytes(std::span<const float>(results_));
  peer.connection.Send(reply, {&part, 1});
}

}  // namespace evenkeel::engine
