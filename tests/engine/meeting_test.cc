// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/meeting.h"

#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "catch2/catch.hpp"

#include "engine/reference/exchange.h"

namespace evenkeel::engine {
namespace {

struct TempDir {
  TempDir() {
    const char* base = std::getenv("TEST_TMPDIR");
    path = std::string(base != nullptr ? base : "/tmp") + "/meeting.XXXXXX";
    REQUIRE(mkdtemp(path.data()) != nullptr);
  }
  ~TempDir() { std::filesystem::remove_all(path); }
  std::string path;
};

// One rank as the engine has it: a server that a thread polls, and a client.
class Rank {
 public:
  struct Identity {
    int rank = 0;
    int num_ranks = 2;
    int slots_per_rank = 4;
    uint64_t epoch = 0;
  };

  Rank(const RunDirectory& directory, const Identity& identity)
      : identity_(identity), client_(directory, Of(identity)) {
    server_ =
        ExchangeServer::Create(directory, Of(identity), [](const auto&, float*) { return absl::OkStatus(); }).value();
    server_->SetEpoch(identity.epoch);
    polling_ = std::thread([this] {
      while (!stop_.HasBeenNotified()) server_->Poll(absl::Milliseconds(50));
    });
  }
  ~Rank() {
    if (meeting_.joinable()) meeting_.join();
    stop_.Notify();
    server_->Wake();
    polling_.join();
  }

  void Start(absl::Duration within = absl::Seconds(30)) {
    meeting_ = std::thread([this, within] {
      const auto pause = [this](absl::Duration at_most) { return stop_.WaitForNotificationWithTimeout(at_most); };
      outcome_ = MeetPeers({.rank = identity_.rank,
                            .num_ranks = identity_.num_ranks,
                            .place = "here",
                            .within = within,
                            .tell_within = absl::Seconds(5),
                            .stop_within = pause,
                            .last_error = [](int rank) { return rank == 2 ? "it fell over" : ""; }},
                           client_, *server_);
    });
  }
  absl::StatusOr<Meeting> Join() {
    meeting_.join();
    return outcome_;
  }
  ExchangeServer& server() { return *server_; }

 private:
  static Greeting Of(const Identity& identity) {
    Greeting greeting{.incarnation = 100 + static_cast<uint64_t>(identity.rank),
                      .rank = identity.rank,
                      .num_ranks = identity.num_ranks,
                      .num_layers = 2,
                      .num_experts = 8,
                      .slots_per_rank = identity.slots_per_rank,
                      .hidden_size = 4};
    std::snprintf(greeting.group, sizeof(greeting.group), "test");
    return greeting;
  }

  const Identity identity_;
  ExchangeClient client_;
  std::unique_ptr<ExchangeServer> server_;
  absl::Notification stop_;
  std::thread polling_, meeting_;
  absl::StatusOr<Meeting> outcome_ = absl::UnknownError("did not end");
};

void CheckParted(Rank& rank, const std::string& from) {
  const absl::Status status = rank.Join().status();
  CAPTURE(status.ToString());
  CHECK(status.code() == absl::StatusCode::kFailedPrecondition);
  CHECK_THAT(std::string(status.message()), Catch::Contains("cannot work with " + from) &&
                                                Catch::Contains("has slots a rank") && Catch::Contains("rank 1"));
}

TEST_CASE("engines that fit meet, and one whose peer has maps joins a group under way", "[meeting]") {
  const TempDir temp;
  const RunDirectory directory = RunDirectory::Open(temp.path).value();
  const uint64_t epoch = GENERATE(uint64_t{0}, uint64_t{7});
  Rank first(directory, {.rank = 0}), second(directory, {.rank = 1, .epoch = epoch});
  first.Start();
  second.Start();
  CHECK(first.Join().value() == (epoch == 0 ? Meeting::kComplete : Meeting::kGroupUnderWay));
  CHECK(second.Join().value() == Meeting::kComplete);
}

TEST_CASE("an engine that came too late to see the other leave still knows why", "[meeting]") {
  const TempDir temp;
  const RunDirectory directory = RunDirectory::Open(temp.path).value();
  const int first_to_end = GENERATE(0, 1);
  CAPTURE(first_to_end);
  Rank other(directory, {.rank = 1 - first_to_end, .slots_per_rank = 6});
  {
    Rank first(directory, {.rank = first_to_end, .slots_per_rank = 4});
    first.Start();
    CheckParted(first, "rank " + std::to_string(1 - first_to_end));
  }
  // Nobody is there any more, and it has not asked anybody itself.
  other.Start();
  CheckParted(other, "rank " + std::to_string(first_to_end));
}

TEST_CASE("a rank that fits one of two that do not fit is told by the one it fits", "[meeting]") {
  const TempDir temp;
  const RunDirectory directory = RunDirectory::Open(temp.path).value();
  const bool comes_later = GENERATE(false, true);
  CAPTURE(comes_later);
  auto odd = std::make_unique<Rank>(directory, Rank::Identity{.rank = 1, .num_ranks = 3, .slots_per_rank = 6});
  auto even = std::make_unique<Rank>(directory, Rank::Identity{.rank = 0, .num_ranks = 3});
  auto third = comes_later ? nullptr : std::make_unique<Rank>(directory, Rank::Identity{.rank = 2, .num_ranks = 3});
  if (third != nullptr) third->Start();
  odd->Start();
  even->Start();
  if (comes_later) {
    while (!even->server().misfit().has_value()) poll(nullptr, 0, 1);
    third = std::make_unique<Rank>(directory, Rank::Identity{.rank = 2, .num_ranks = 3});
    third->Start();
  }
  CheckParted(*even, "rank ");
  even = nullptr;
  CheckParted(*odd, "rank ");
  odd = nullptr;
  CheckParted(*third, "rank ");
}

TEST_CASE("an engine whose peers do not come says which", "[meeting]") {
  const TempDir temp;
  const RunDirectory directory = RunDirectory::Open(temp.path).value();
  Rank only(directory, {.rank = 1, .num_ranks = 3});
  only.Start(absl::Milliseconds(50));
  CHECK(only.Join().status().message() == "no engine in here for rank 0, 2 of 3; rank 2 has ended: it fell over");
}

}  // namespace
}  // namespace evenkeel::engine
