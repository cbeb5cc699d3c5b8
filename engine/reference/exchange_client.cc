// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/exchange_client.h"

#include <poll.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"

namespace evenkeel::engine {
namespace {

constexpr absl::Duration kRetryAfter = absl::Milliseconds(50);

}  // namespace

ExchangeClient::ExchangeClient(const RunDirectory& directory, const Greeting& self)
    : directory_(directory), self_(self), peers_(static_cast<size_t>(self.num_ranks)) {}

void ExchangeClient::TryConnect(int rank, absl::Time now) {
  Peer& peer = peers_[static_cast<size_t>(rank)];
  if (cut_ || now < peer.next_try) return;
  peer.next_try = now + kRetryAfter;
  peer.greeted = false;
  absl::StatusOr<Connection> connection = directory_.Connect(rank);
  if (!connection.ok()) return;
  peer.connection = *std::move(connection);
  const std::span<const std::byte> part = BytesOf(self_);
  peer.connection.Send({.kind = MessageKind::kHello}, {&part, 1});
}

std::vector<int> ExchangeClient::Greet(absl::Time now) {
  std::vector<int> missing;
  for (int rank = 0; rank < self_.num_first_ranks(); ++rank) {
    Peer& peer = peers_[static_cast<size_t>(rank)];
    if (rank == self_.rank) continue;
    if (!peer.connection.open()) TryConnect(rank, now);
    Take(peer);
    if (!peer.greeted) missing.push_back(rank);
  }
  return missing;
}

void ExchangeClient::SendRequest(Peer& peer) {
  peer.header.target_incarnation = peer.greeting.incarnation;
  const std::span<const std::byte> part(peer.payload);
  peer.connection.Send(peer.header, {&part, 1});
}

void ExchangeClient::Ask(int rank, const Request& request, absl::Time now) {
  Peer& peer = peers_[static_cast<size_t>(rank)];
  EVENKEEL_CHECK(rank != self_.rank && peer.state == State::kIdle);
  peer.header = {.kind = MessageKind::kRequest,
                 .serial = ++serial_,
                 .ticket = request.ticket,
                 .epoch = request.epoch,
                 .layer = request.layer,
                 .num_groups = static_cast<uint32_t>(request.groups.size()),
                 .phase = request.phase};
  const auto groups = std::as_bytes(request.groups), rows = std::as_bytes(request.x);
  peer.payload.assign(groups.begin(), groups.end());
  peer.payload.insert(peer.payload.end(), rows.begin(), rows.end());
  peer.num_answer_values = request.x.size();
  peer.state = State::kWaiting;
  peer.wanted = request.incarnation;
  if (peer.greeted && peer.wanted != kAnyIncarnation && peer.wanted != peer.greeting.incarnation) {
    peer.connection.Close("of another incarnation");
    peer.next_try = now;
  }
  if (!peer.connection.open()) {
    TryConnect(rank, now);
  } else if (peer.greeted) {
    SendRequest(peer);
  }
}

void ExchangeClient::Poll(absl::Duration timeout, absl::Time now) {
  std::vector<pollfd> fds;
  std::vector<Peer*> polled;
  for (int rank = 0; rank < self_.num_ranks; ++rank) {
    Peer& peer = peers_[static_cast<size_t>(rank)];
    if (peer.state != State::kWaiting) continue;
    if (!peer.connection.open()) TryConnect(rank, now);
    if (!peer.connection.open()) {
      timeout = std::min(timeout, kRetryAfter);
      continue;
    }
    const short events = peer.connection.has_unsent() ? POLLIN | POLLOUT : POLLIN;
    fds.push_back({peer.connection.fd(), events, 0});
    polled.push_back(&peer);
  }
  if (poll(fds.data(), fds.size(), static_cast<int>(absl::ToInt64Milliseconds(timeout))) <= 0) return;
  for (size_t i = 0; i < polled.size(); ++i) {
    if ((fds[i].revents & POLLOUT) != 0) polled[i]->connection.Flush();
    if ((fds[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0) Take(*polled[i]);
  }
}

void ExchangeClient::Take(Peer& peer) {
  peer.connection.ReadAvailable();
  while (const std::optional<Message> message = peer.connection.Next()) {
    const MessageHeader& header = message->header;
    if (!peer.greeted) {
      TakeWelcome(peer, *message);
      continue;
    }
    if (header.kind == MessageKind::kRefused && header.serial == 0) {
      peer.enmity = message->text();
      peer.connection.Close(peer.enmity);
      continue;
    }
    const bool is_ours = peer.state == State::kWaiting && header.serial == peer.header.serial &&
                         header.ticket == peer.header.ticket && header.layer == peer.header.layer;
    if (!is_ours) continue;  // late: its step was given up
    if (header.kind == MessageKind::kRefused) {
      peer.state = State::kRefused;
      peer.refusal = message->text();
    } else if (header.kind == MessageKind::kAnswer &&
               message->payload.size() == peer.num_answer_values * sizeof(float)) {
      peer.answer.resize(peer.num_answer_values);
      std::memcpy(peer.answer.data(), message->payload.data(), message->payload.size());
      peer.state = State::kAnswered;
    } else {
      peer.connection.Close("an answer of another size");
    }
  }
}

void ExchangeClient::TakeWelcome(Peer& peer, const Message& message) {
  if (message.header.kind != MessageKind::kWelcome) {
    peer.enmity = message.header.kind == MessageKind::kRefused ? message.text() : "the peer did not greet";
    return peer.connection.Close(peer.enmity);
  }
  const absl::StatusOr<Greeting> greeting = ParseGreeting(message);
  const absl::Status status = greeting.ok() ? CheckPeer(self_, *greeting) : greeting.status();
  if (!status.ok()) {
    peer.enmity = std::string(status.message());
    peer.connection.SendText({.kind = MessageKind::kRefused}, peer.enmity);
    return peer.connection.Close(peer.enmity);
  }
  const uint64_t known = peer.greeting.incarnation;
  peer.greeting = *greeting;
  peer.greeted = true;
  peer.enmity.clear();
  if (peer.state != State::kWaiting) return;
  const bool is_meant = peer.wanted == kAnyIncarnation ? known == 0 || known == greeting->incarnation
                                                       : peer.wanted == greeting->incarnation;
  if (!is_meant) {
    peer.state = State::kRefused;
    peer.refusal = absl::StrCat("rank ", greeting->rank, " is another incarnation now");
    return;
  }
  if (peer.header.target_incarnation != 0) ++num_resent_;
  SendRequest(peer);
}

void ExchangeClient::Finish(int rank) {
  Peer& peer = peers_[static_cast<size_t>(rank)];
  if (peer.state == State::kWaiting) peer.connection.Close("its request was given up");
  peer.state = State::kIdle;
}

void ExchangeClient::SayBye() {
  for (Peer& peer : peers_) {
    if (peer.connection.open() && peer.greeted) peer.connection.Send({.kind = MessageKind::kBye}, {});
  }
}

void ExchangeClient::Cut() {
  cut_ = true;
  for (Peer& peer : peers_) peer.connection.Close("cut");
}

}  // namespace evenkeel::engine
