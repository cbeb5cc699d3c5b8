// SPDX-License-Identifier: Apache-2.0
#include "agent/controller_stream.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "catch2/catch.hpp"

#include "runtime/clock.h"
#include "runtime/strand.h"
#include "tests/agent/core_script.h"
#include "tests/agent/fake_controller.h"

namespace evenkeel::agent {
namespace {

LoadReport Report(int64_t seconds, std::vector<LoadReport::Entry> entries, uint64_t unrouted) {
  LoadReport report;
  report.time = absl::FromUnixSeconds(seconds);
  report.first_step = static_cast<uint64_t>(seconds);
  report.last_step = static_cast<uint64_t>(seconds) + 1;
  report.entries = std::move(entries);
  report.num_unrouted_tokens = unrouted;
  return report;
}

TEST_CASE("merged reports hold the tokens of both and the span from the first to the last", "[stream]") {
  LoadReport report =
      Report(5, {{LayerId(0), SlotIdx(1), ExpertId(2), 10, 4, 6}, {LayerId(0), SlotIdx(2), ExpertId(2), 1}}, 3);
  MergeReports(Report(7, {{LayerId(0), SlotIdx(1), ExpertId(2), 5, 1, 2}, {LayerId(0), SlotIdx(1), ExpertId(3), 7}}, 4),
               report);
  CHECK(report.entries == std::vector<LoadReport::Entry>{{LayerId(0), SlotIdx(1), ExpertId(2), 15, 5, 8},
                                                         {LayerId(0), SlotIdx(2), ExpertId(2), 1},
                                                         {LayerId(0), SlotIdx(1), ExpertId(3), 7}});
  CHECK(report.time == absl::FromUnixSeconds(7));
  CHECK(report.first_step == 5);
  CHECK(report.last_step == 8);
  CHECK(report.num_unrouted_tokens == 7);
}

// A stream on a strand of its own that attaches whenever it is opened and keeps what happens.
class Client {
 public:
  explicit Client(const std::string& controller, ControllerStream::Options options = {}) : strand_({.name = "client"}) {
    options.controller = controller;
    options.group = script::Group();
    stream_ = std::make_unique<ControllerStream>(strand_, options,
                                                 ControllerStream::Listener{.opened =
                                                                                [this](uint64_t) {
                                                                                  strand_.AssertHeld();
                                                                                  Attach attach;
                                                                                  attach.group = script::Group();
                                                                                  attach.member = {RankId(1), 7};
                                                                                  attach.slots = script::Region().slots;
                                                                                  stream_->Send(attach);
                                                                                },
                                                                            .received =
                                                                                [this](uint64_t, ControllerMessage) {
                                                                                  absl::MutexLock lock(&mutex_);
                                                                                  ++num_received_;
                                                                                },
                                                                            .ended =
                                                                                [this](uint64_t, absl::Status why) {
                                                                                  absl::MutexLock lock(&mutex_);
                                                                                  ends_.push_back(why.code());
                                                                                }});
    Do([this] {
      strand_.AssertHeld();
      strand_.SetTimer({.next_wakeup =
                            [this] {
                              strand_.AssertHeld();
                              return stream_->NextWakeup();
                            },
                        .on_wakeup =
                            [this] {
                              strand_.AssertHeld();
                              stream_->Advance(runtime::MonotonicNow());
                            }});
    });
  }
  ~Client() {
    absl::Notification shut;
    Do([this, &shut] {
      strand_.AssertHeld();
      strand_.SetTimer({});
      stream_->Shut([&shut] { shut.Notify(); });
    });
    shut.WaitForNotification();
    strand_.Stop();
  }

  void SetBackoffMax(absl::Duration backoff_max) {
    Do([this, backoff_max] { stream_->SetBackoffMax(backoff_max); });
  }
  void Send(AgentMessage message) {
    Do([this, message] { stream_->Send(message); });
  }
  void Disconnect() {
    Do([this] { stream_->Disconnect(absl::AbortedError("for the test")); });
  }
  bool AwaitReceived(int count) {
    absl::MutexLock lock(&mutex_);
    const auto arrived = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return num_received_ >= count; };
    return mutex_.AwaitWithTimeout(absl::Condition(&arrived), absl::Seconds(20));
  }
  std::vector<absl::StatusCode> AwaitEnds(size_t count) {
    absl::MutexLock lock(&mutex_);
    const auto arrived = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return ends_.size() >= count; };
    mutex_.AwaitWithTimeout(absl::Condition(&arrived), absl::Seconds(20));
    return ends_;
  }

 private:
  void Do(std::function<void()> task) {
    REQUIRE(strand_
                .Post([this, task = std::move(task)] {
                  strand_.AssertHeld();
                  task();
                })
                .ok());
  }
  runtime::Strand strand_;
  std::unique_ptr<ControllerStream> stream_;
  absl::Mutex mutex_;
  int num_received_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<absl::StatusCode> ends_ ABSL_GUARDED_BY(mutex_);
};

TEST_CASE("messages go both ways in order", "[stream]") {
  FakeController controller;
  Client client(controller.address());
  REQUIRE(controller.Await<Attach>());
  for (uint64_t n = 0; n < 50; ++n) client.Send(SlotLost{LayerId(0), SlotIdx(3), n});
  for (uint64_t n = 0; n < 50; ++n) {
    const auto lost = controller.Await<SlotLost>();
    REQUIRE(lost.has_value());
    CHECK(lost->generation == n);
  }
  for (uint32_t n = 1; n <= 20; ++n) REQUIRE(controller.Say(Welcome{.term = n, .settings = {}}));
  CHECK(client.AwaitReceived(20));
}

TEST_CASE("a stream that was disconnected is followed by another", "[stream]") {
  FakeController controller;
  Client client(controller.address());
  REQUIRE(controller.Await<Attach>());
  client.Disconnect();
  CHECK(controller.Await<Attach>());
  CHECK(client.AwaitEnds(1) == std::vector{absl::StatusCode::kAborted});
}

TEST_CASE("a controller that is away is tried again until it is there", "[stream]") {
  int port = 0;
  {
    FakeController gone;
    port = gone.port();
  }
  Client client("127.0.0.1:" + std::to_string(port));
  CHECK(client.AwaitEnds(3)[0] == absl::StatusCode::kUnavailable);
  FakeController controller(port);
  CHECK(controller.Await<Attach>());
}

TEST_CASE("a controller that takes the stream and never answers is left", "[stream]") {
  FakeController controller;
  ControllerStream::Options options;
  options.answer_max = absl::Milliseconds(100);
  Client client(controller.address(), options);
  REQUIRE(controller.Await<Attach>());
  CHECK(client.AwaitEnds(1)[0] == absl::StatusCode::kDeadlineExceeded);
  CHECK(controller.Await<Attach>());
}

TEST_CASE("an agent that is refused comes again ever more slowly", "[stream]") {
  FakeController controller;
  const absl::Time begin = runtime::MonotonicNow();
  ControllerStream::Options options;
  options.backoff_min = absl::Milliseconds(20);
  options.backoff_max = absl::Minutes(1);
  Client client(controller.address(), options);
  for (int attempt = 1; attempt <= 7; ++attempt) {
    REQUIRE(controller.Await<Attach>());
    REQUIRE(controller.Say(Refused{absl::FailedPreconditionError("of another model")}));
    REQUIRE(client.AwaitReceived(attempt));
    client.Disconnect();
  }
  // Half of 20, 40, ... 640 ms at least.
  CHECK(runtime::MonotonicNow() - begin >= absl::Milliseconds(630));
}

TEST_CASE("an agent waits no longer than it was told to", "[stream]") {
  FakeController controller;
  ControllerStream::Options options;
  options.backoff_min = absl::Milliseconds(20);
  options.backoff_max = absl::Minutes(10);
  Client client(controller.address(), options);
  client.SetBackoffMax(absl::Milliseconds(40));
  const absl::Time begin = runtime::MonotonicNow();
  for (int attempt = 1; attempt <= 12; ++attempt) {  // else minutes
    REQUIRE(controller.Await<Attach>());
    REQUIRE(controller.Say(Refused{absl::FailedPreconditionError("of another model")}));
    REQUIRE(client.AwaitReceived(attempt));
    client.Disconnect();
  }
  CHECK(runtime::MonotonicNow() - begin < absl::Seconds(30));
}

TEST_CASE("messages that cannot be valid end the stream", "[stream]") {
  FakeController controller;
  Client client(controller.address());
  REQUIRE(controller.Await<Attach>());
  MoveOrder order = script::Order(1, 5, 1, {1, 1});
  order.layer = LayerId(99);
  REQUIRE(controller.Say(order));
  CHECK(client.AwaitEnds(1) == std::vector{absl::StatusCode::kInvalidArgument});
}

}  // namespace
}  // namespace evenkeel::agent
