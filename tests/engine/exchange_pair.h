// SPDX-License-Identifier: Apache-2.0
//
// What tests of the exchange share: ranks that greet in a directory of their own, and a server that doubles.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "catch2/catch.hpp"

#include "engine/reference/exchange.h"
#include "engine/reference/exchange_client.h"
#include "engine/reference/exchange_server.h"

namespace evenkeel::engine {

using State = ExchangeClient::State;
inline constexpr int kHidden = 4;

struct TempDir {
  TempDir() {
    const char* base = std::getenv("TEST_TMPDIR");
    path = std::string(base != nullptr ? base : "/tmp") + "/exchange.XXXXXX";
    REQUIRE(mkdtemp(path.data()) != nullptr);
  }
  ~TempDir() { std::filesystem::remove_all(path); }
  std::string path;
};

inline Greeting GreetingOf(int rank, int num_ranks = 3) {
  Greeting greeting{.incarnation = 100 + static_cast<uint64_t>(rank),
                    .rank = rank,
                    .num_ranks = num_ranks,
                    .num_layers = 2,
                    .num_experts = 8,
                    .slots_per_rank = 4,
                    .hidden_size = kHidden};
  std::snprintf(greeting.group, sizeof(greeting.group), "test");
  return greeting;
}

// Answers twice what it was asked, plus its rank.
inline std::unique_ptr<ExchangeServer> Doubler(const RunDirectory& directory, const Greeting& greeting,
                                               int* num_served = nullptr) {
  auto server = ExchangeServer::Create(
      directory, greeting, [rank = greeting.rank, num_served](const ExchangeServer::Request& request, float* y) {
        if (num_served != nullptr) ++*num_served;
        for (int i = 0; i < request.num_rows * kHidden; ++i) y[i] = 2 * request.x[i] + static_cast<float>(rank);
        return absl::OkStatus();
      });
  REQUIRE(server.ok());
  return *std::move(server);
}

inline std::vector<float> RowsFor(int num_rows, float value) {
  return std::vector<float>(static_cast<size_t>(num_rows * kHidden), value);
}

// Polls both sides until `done`; fails after a while.
template <typename Done>
void PollUntil(ExchangeClient& client, const std::vector<ExchangeServer*>& servers, Done done) {
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (!done()) {
    REQUIRE(absl::Now() < deadline);
    client.Poll(absl::Milliseconds(1), absl::Now());
    for (ExchangeServer* server : servers) server->Poll(absl::ZeroDuration());
  }
}

inline void GreetAll(ExchangeClient& client, const std::vector<ExchangeServer*>& servers) {
  PollUntil(client, servers, [&] { return client.Greet(absl::Now()).empty(); });
}

}  // namespace evenkeel::engine
