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

TEST_CASE("whoever finds that two engines do not fit tells the other before it closes", "[exchange]") {
  const TempDir temp;
  const RunDirectory directory = RunDirectory::Open(temp.path).value();
  const int listener = directory.Listen(1).value();
  ExchangeClient client(directory, GreetingOf(0, 2));
  client.Greet(absl::Now());
  Connection connection(accept(listener, nullptr, nullptr));
  Greeting other = GreetingOf(1, 2);
  other.slots_per_rank = 5;
  const std::span<const std::byte> part = BytesOf(other);
  connection.Send({.kind = MessageKind::kWelcome}, {&part, 1});
  client.Greet(absl::Now());
  const std::string what = "rank 1 has slots a rank 5, rank 0 has 4";
  CHECK(client.enmity(1) == what);
  connection.ReadAvailable();
  REQUIRE(connection.Next()->header.kind == MessageKind::kHello);
  const std::optional<Message> refusal = connection.Next();
  REQUIRE(refusal.has_value());
  CHECK(refusal->header.kind == MessageKind::kRefused);
  CHECK(refusal->text() == what);
  close(listener);

  const auto server = Doubler(directory, GreetingOf(1, 2));
  Connection refuser = directory.Connect(1).value();
  const Greeting self = GreetingOf(0, 2);
  const std::span<const std::byte> hello = BytesOf(self);
  refuser.Send({.kind = MessageKind::kHello}, {&hello, 1});
  refuser.SendText({.kind = MessageKind::kRefused}, "not with you");
  for (int i = 0; i < 10 && !server->misfit().has_value(); ++i) server->Poll(absl::Milliseconds(1));
  REQUIRE(server->misfit().has_value());
  CHECK(server->misfit()->rank == 0);
  CHECK(server->misfit()->what == "not with you");
  CHECK(server->HasTold(0));
}

TEST_CASE("connections that never greet are closed at their deadline, and the oldest where they are too many",
          "[exchange]") {
  const TempDir temp;
  const RunDirectory directory = RunDirectory::Open(temp.path).value();
  const auto server =
      ExchangeServer::Create(directory, GreetingOf(1, 2), [](const auto&, float*) { return absl::OkStatus(); },
                             {.greet_within = absl::Milliseconds(200), .num_ungreeted_max = 3})
          .value();
  ExchangeClient client(directory, GreetingOf(0, 2));
  GreetAll(client, {server.get()});
  std::vector<Connection> silent;
  const auto num_open = [&] {
    int count = 0;
    for (Connection& connection : silent) {
      connection.ReadAvailable();
      count += connection.open() ? 1 : 0;
    }
    return count;
  };
  const absl::Time begun = absl::Now();
  for (int i = 0; i < 8; ++i) {
    silent.push_back(directory.Connect(1).value());
    server->Poll(absl::ZeroDuration());
  }
  const int num_kept = num_open();
  if (absl::Now() - begun < absl::Milliseconds(200)) {
    CHECK(num_kept == 3);
    CHECK_FALSE(silent[4].open());
    CHECK(silent[5].open());
  }
  while (num_open() > 0) {
    REQUIRE(absl::Now() < begun + absl::Seconds(20));
    server->Poll(absl::Seconds(10));  // ends at the deadline by itself
  }
  CHECK(absl::Now() >= begun + absl::Milliseconds(200));
  CHECK(client.Greet(absl::Now()).empty());
}

TEST_CASE("a server without a free descriptor does not spin, and accepts when there is one again", "[exchange]") {
  const TempDir temp;
  const RunDirectory directory = RunDirectory::Open(temp.path).value();
  const auto server = Doubler(directory, GreetingOf(1, 2));
  ExchangeClient client(directory, GreetingOf(0, 2));
  client.Greet(absl::Now());  // connected, not yet accepted
  rlimit limit = {};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  rlimit small = limit;
  small.rlim_cur = 64;
  REQUIRE(setrlimit(RLIMIT_NOFILE, &small) == 0);
  std::vector<int> taken;
  for (int fd = dup(0); fd >= 0; fd = dup(0)) taken.push_back(fd);
  int num_polls = 0;
  const absl::Time begun = absl::Now();
  for (; absl::Now() < begun + absl::Milliseconds(300); ++num_polls) server->Poll(absl::Milliseconds(50));
  REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  CHECK_FALSE(taken.empty());
  for (const int fd : taken) close(fd);
  CHECK(num_polls <= 20);
  CHECK(client.Greet(absl::Now()) == std::vector<int>{1});
  GreetAll(client, {server.get()});
}

TEST_CASE("a rank's socket belongs to one living engine, in a directory of any length", "[exchange]") {
  const TempDir temp;
  const std::string deep = temp.path + "/" + std::string(120, 'd');
  REQUIRE(mkdir(deep.c_str(), 0700) == 0);
  const RunDirectory directory = RunDirectory::Open(deep).value();
  auto server = Doubler(directory, GreetingOf(1));
  CHECK(std::filesystem::exists(directory.SocketPath(1)));
  CHECK(directory.Listen(1).status().code() == absl::StatusCode::kAlreadyExists);
  server = nullptr;
  CHECK_FALSE(std::filesystem::exists(directory.SocketPath(1)));
  CHECK(directory.Connect(1).status().code() == absl::StatusCode::kUnavailable);
  const int dead = directory.Listen(1).value();
  close(dead);  // as a killed engine leaves it: the file without a listener
  CHECK(Doubler(directory, GreetingOf(1)) != nullptr);
  CHECK(RunDirectory::Open(temp.path + "/none").status().code() == absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace evenkeel::engine
