// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/exchange.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "catch2/catch.hpp"

#include "engine/reference/exchange_client.h"
#include "engine/reference/exchange_server.h"
#include "tests/engine/exchange_pair.h"

namespace evenkeel::engine {
namespace {

TEST_CASE("a rank asks 63 others at once and each answers for itself", "[exchange]") {
  const TempDir temp;
  const RunDirectory directory = RunDirectory::Open(temp.path).value();
  std::vector<std::unique_ptr<ExchangeServer>> owned;
  std::vector<ExchangeServer*> servers;
  for (int rank = 1; rank < 64; ++rank) {
    owned.push_back(Doubler(directory, GreetingOf(rank, 64)));
    servers.push_back(owned.back().get());
  }
  ExchangeClient client(directory, GreetingOf(0, 64));
  GreetAll(client, servers);
  for (int round = 1; round < 4; ++round) {
    for (int rank = 1; rank < 64; ++rank) {
      const std::vector<SlotGroup> groups = {{0, 1, round}, {3, 2, 1}};
      const std::vector<float> x = RowsFor(round + 1, static_cast<float>(rank * 10));
      client.Ask(rank, {.ticket = round, .layer = 1, .groups = groups, .x = x}, absl::Now());
    }
    for (int rank = 1; rank < 64; ++rank) {
      PollUntil(client, servers, [&] { return client.state(rank) == State::kAnswered; });
      const auto answer = client.answer(rank);
      CHECK(std::vector<float>(answer.begin(), answer.end()) == RowsFor(round + 1, static_cast<float>(rank * 21)));
      client.Finish(rank);
    }
  }
  CHECK(client.num_resent() == 0);
  CHECK(servers[5]->num_peers_present() == 1);
  client.SayBye();
  PollUntil(client, servers, [&] { return servers[5]->num_peers_present() == 0; });
}

TEST_CASE("an engine's socket is open to owner and group alone", "[exchange]") {
  const TempDir temp;
  const RunDirectory directory = RunDirectory::Open(temp.path).value();
  const mode_t mask = ::umask(0);
  const auto server = Doubler(directory, GreetingOf(1));
  ::umask(mask);
  struct stat info = {};
  REQUIRE(::stat(directory.SocketPath(1).c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0660);
}

TEST_CASE("engines that do not fit refuse each other in words", "[exchange]") {
  const TempDir temp;
  const RunDirectory directory = RunDirectory::Open(temp.path).value();
  const auto server = Doubler(directory, GreetingOf(1));
  const auto enmity = [&](auto change) {
    Greeting greeting = GreetingOf(0);
    change(greeting);
    ExchangeClient client(directory, greeting);
    PollUntil(client, {server.get()}, [&] {
      client.Greet(absl::Now());
      return !client.enmity(1).empty();
    });
    return client.enmity(1);
  };
  using Catch::Contains;
  CHECK_THAT(enmity([](Greeting& g) { g.group[0] = 'b'; }), Contains("group"));
  CHECK_THAT(enmity([](Greeting& g) { g.num_ranks = 4; }), Contains("world of 4"));
  CHECK_THAT(enmity([](Greeting& g) { g.slots_per_rank = 5; }), Contains("slots a rank 5"));
  CHECK_THAT(enmity([](Greeting& g) { g.num_layers = 1; }), Contains("layers 1"));
  CHECK_THAT(enmity([](Greeting& g) { g.num_experts = 1; }), Contains("experts 1"));
  CHECK_THAT(enmity([](Greeting& g) { g.hidden_size = 8; }), Contains("hidden size 8"));
  CHECK_THAT(enmity([](Greeting& g) { g.weights_version = 9; }), Contains("weights version 9"));
  CHECK_THAT(enmity([](Greeting& g) { g.rank = -1; }), Contains("rank -1"));
}

TEST_CASE("a request outlives its connection, but means one incarnation only", "[exchange]") {
  const TempDir temp;
  const RunDirectory directory = RunDirectory::Open(temp.path).value();
  ExchangeClient client(directory, GreetingOf(0, 2));
  auto server = Doubler(directory, GreetingOf(1, 2));
  GreetAll(client, {server.get()});
  const std::vector<SlotGroup> groups = {{0, 0, 1}};
  const std::vector<float> x = RowsFor(1, 5);
  const auto ask = [&] { client.Ask(1, {.ticket = 7, .layer = 0, .groups = groups, .x = x}, absl::Now()); };

  ask();
  server = nullptr;  // gone before it looked
  server = Doubler(directory, GreetingOf(1, 2));
  PollUntil(client, {server.get()}, [&] { return client.state(1) != State::kWaiting; });
  CHECK(client.state(1) == State::kAnswered);
  CHECK(client.answer(1)[0] == 11);
  CHECK(client.num_resent() == 1);
  client.Finish(1);

  ask();
  server = nullptr;
  Greeting restarted = GreetingOf(1, 2);
  restarted.incarnation = 999;
  int num_served = 0;
  server = Doubler(directory, restarted, &num_served);
  PollUntil(client, {server.get()}, [&] { return client.state(1) != State::kWaiting; });
  CHECK(client.state(1) == State::kRefused);
  CHECK_THAT(client.refusal(1), Catch::Contains("another incarnation"));
  CHECK(num_served == 0);
  client.Finish(1);

  ask();
  PollUntil(client, {server.get()}, [&] { return client.state(1) == State::kAnswered; });
  CHECK(num_served == 1);
}

TEST_CASE("whoever is meant by name is asked on a connection of its own, and nobody in its place", "[exchange]") {
  const TempDir temp;
  const RunDirectory directory = RunDirectory::Open(temp.path).value();
  ExchangeClient client(directory, GreetingOf(0, 2));
  int num_served = 0;
  auto server = Doubler(directory, GreetingOf(1, 2), &num_served);
  const std::vector<SlotGroup> groups = {{0, 0, 1}};
  const std::vector<float> x = RowsFor(1, 5);
  const auto ask = [&](uint64_t incarnation) {
    client.Ask(1, {.incarnation = incarnation, .ticket = 7, .layer = 0, .groups = groups, .x = x}, absl::Now());
    PollUntil(client, {server.get()}, [&] { return client.state(1) != State::kWaiting; });
    const State state = client.state(1);
    client.Finish(1);
    return state;
  };
  CHECK(ask(101) == State::kAnswered);
  CHECK(ask(999) == State::kRefused);  // the one of before is still there
  Greeting successor = GreetingOf(1, 2);
  successor.incarnation = 999;
  server = nullptr;
  server = Doubler(directory, successor, &num_served);
  CHECK(ask(999) == State::kAnswered);
  CHECK(ask(101) == State::kRefused);
  CHECK(num_served == 2);
}

TEST_CASE("ranks beyond the first are asked when it comes to that, and not awaited", "[exchange]") {
  const TempDir temp;
  const RunDirectory directory = RunDirectory::Open(temp.path).value();
  const auto growing = [](int rank) {
    Greeting greeting = GreetingOf(rank, 4);
    greeting.world = 2;
    return greeting;
  };
  ExchangeClient client(directory, growing(0));
  const auto first = Doubler(directory, growing(1));
  GreetAll(client, {first.get()});
  const auto later = Doubler(directory, growing(3));
  const std::vector<SlotGroup> groups = {{0, 0, 1}};
  const std::vector<float> x = RowsFor(1, 5);
  client.Ask(3, {.incarnation = 103, .ticket = 7, .layer = 0, .groups = groups, .x = x}, absl::Now());
  PollUntil(client, {later.get()}, [&] { return client.state(3) != State::kWaiting; });
  CHECK(client.state(3) == State::kAnswered);
  Greeting other_world = growing(1);
  other_world.world = 3;
  CHECK_THAT(std::string(CheckPeer(growing(0), other_world).message()), Catch::Contains("a world of 3, rank 0 has 2"));
  Greeting other_room = growing(1);
  other_room.num_ranks = 5;
  CHECK_THAT(std::string(CheckPeer(growing(0), other_room).message()),
             Catch::Contains("room for ranks 5, rank 0 has 4"));
}

TEST_CASE("a server sees that a request was given up, and what it refuses comes back in words", "[exchange]") {
  const TempDir temp;
  const RunDirectory directory = RunDirectory::Open(temp.path).value();
  ExchangeClient client(directory, GreetingOf(0, 2));
  int num_given_up = 0, num_refused = 0;
  const auto server =
      ExchangeServer::Create(directory, GreetingOf(1, 2), [&](const auto& request, float*) {
        ++(request.given_up() ? num_given_up : num_refused);
        return request.given_up() ? absl::CancelledError("given up") : absl::FailedPreconditionError("not today");
      }).value();
  GreetAll(client, {server.get()});
  const std::vector<SlotGroup> groups = {{0, 0, 1}};
  const std::vector<float> x = RowsFor(1, 5);
  client.Ask(1, {.ticket = 7, .layer = 0, .groups = groups, .x = x}, absl::Now());
  client.Finish(1);
  for (int i = 0; i < 5; ++i) server->Poll(absl::Milliseconds(1));
  CHECK(num_given_up == 1);
  CHECK(client.state(1) == State::kIdle);

  client.Ask(1, {.ticket = 8, .layer = 0, .groups = groups, .x = x}, absl::Now());
  PollUntil(client, {server.get()}, [&] { return client.state(1) != State::kWaiting; });
  CHECK(client.state(1) == State::kRefused);
  CHECK_THAT(client.refusal(1), Catch::Contains("not today"));
  CHECK(num_refused == 1);
}

TEST_CASE("messages far larger than a socket's buffer pass whole", "[exchange]") {
  const TempDir temp;
  const RunDirectory directory = RunDirectory::Open(temp.path).value();
  const auto server = Doubler(directory, GreetingOf(1, 2));
  absl::Notification stop;
  std::thread thread([&] {
    while (!stop.HasBeenNotified()) server->Poll(absl::Milliseconds(50));
  });
  ExchangeClient client(directory, GreetingOf(0, 2));
  const std::vector<SlotGroup> groups = {{0, 0, 500000}};
  std::vector<float> x(500000 * kHidden);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 1000);
  client.Ask(1, {.ticket = 1, .layer = 0, .groups = groups, .x = x}, absl::Now());
  PollUntil(client, {}, [&] { return client.state(1) != State::kWaiting; });
  REQUIRE(client.state(1) == State::kAnswered);
  size_t num_wrong = 0;
  for (size_t i = 0; i < x.size(); ++i) num_wrong += client.answer(1)[i] == 2 * x[i] + 1 ? 0 : 1;
  CHECK(num_wrong == 0);
  stop.Notify();
  server->Wake();
  thread.join();
}

TEST_CASE("nonsense ends its own connection and no other", "[exchange]") {
  const TempDir temp;
  const RunDirectory directory = RunDirectory::Open(temp.path).value();
  const auto server = Doubler(directory, GreetingOf(1, 2));
  ExchangeClient client(directory, GreetingOf(0, 2));
  GreetAll(client, {server.get()});
  const auto ends = [&](auto&& send_nonsense) {
    Connection connection = directory.Connect(1).value();
    const Greeting self = GreetingOf(0, 2);
    const std::span<const std::byte> part = BytesOf(self);
    connection.Send({.kind = MessageKind::kHello}, {&part, 1});
    send_nonsense(connection);
    for (int i = 0; i < 10 && connection.open(); ++i) {
      server->Poll(absl::Milliseconds(1));
      connection.ReadAvailable();
      while (connection.Next()) {
      }
    }
    return !connection.open();
  };
  CHECK(ends([](Connection& c) { c.Send({.magic = 1}, {}); }));
  CHECK(ends([](Connection& c) { c.Send({.kind = MessageKind::kWelcome}, {}); }));
  CHECK(ends([](Connection& c) { c.Send({.kind = MessageKind::kRequest, .num_groups = 1000}, {}); }));
  CHECK(ends([](Connection& c) {
    const SlotGroup group = {0, 0, 1 << 30};
    const std::span<const std::byte> part = BytesOf(group);
    c.Send({.kind = MessageKind::kRequest, .num_groups = 1}, {&part, 1});
  }));
  CHECK(ends([](Connection& c) {
    const SlotGroup group = {0, 0, -1};
    const std::span<const std::byte> part = BytesOf(group);
    c.Send({.kind = MessageKind::kRequest, .num_groups = 1}, {&part, 1});
  }));
  CHECK(ends([](Connection& c) {
    const MessageHeader header{.kind = MessageKind::kRequest, .payload_bytes = kPayloadBytesMax + 4};
    CHECK(send(c.fd(), &header, sizeof(header), MSG_NOSIGNAL) == sizeof(header));
  }));
  CHECK_FALSE(ends([](Connection&) {}));
  CHECK(client.Greet(absl::Now()).empty());
}

}  // namespace
}  // namespace evenkeel::engine
