// SPDX-License-Identifier: Apache-2.0
//
// The agent from start to end: finding regions, refusing what is not its own, going on with restarted engines.
#include "agent/run_agent.h"

#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "catch2/catch.hpp"

#include "engine/region/agent_region.h"
#include "tests/agent/fake_controller.h"
#include "tests/engine/test_region.h"

namespace evenkeel::agent {
namespace {

using engine::TestDirectory;
using engine::TestRegion;

AgentOptions OptionsFor(const std::string& region, const std::string& controller = "127.0.0.1:1") {
  AgentOptions options;
  options.controller = controller;
  options.group = "test";
  options.rank = 1;
  options.region = region;
  return options;
}

// Runs to its end; as if told to end after twenty seconds.
absl::Status RunAlone(const AgentOptions& options) {
  const absl::Time end = absl::Now() + absl::Seconds(20);
  return RunAgent(options, [&](absl::Duration at_most) {
    absl::Notification().WaitForNotificationWithTimeout(at_most);
    return absl::Now() > end;
  });
}

// An agent on a thread of its own.
class Running {
 public:
  explicit Running(AgentOptions options)
      : thread_([this, options] {
          status_ = RunAgent(options,
                             [this](absl::Duration at_most) { return stop_.WaitForNotificationWithTimeout(at_most); });
        }) {}
  ~Running() { static_cast<void>(Stop()); }
  absl::Status Stop() {
    if (!stop_.HasBeenNotified()) {
      stop_.Notify();
      thread_.join();
    }
    return status_;
  }

 private:
  absl::Notification stop_;
  absl::Status status_;
  std::thread thread_;
};

TEST_CASE("missing and wrong options are refused by name", "[run_agent]") {
  TestDirectory directory;
  AgentOptions options = OptionsFor(directory.path());
  std::string name;
  SECTION("group") {
    options.group.clear();
    name = "--group";
  }
  SECTION("rank") {
    options.rank = -1;
    name = "--rank";
  }
  SECTION("controller") {
    options.controller.clear();
    name = "--controller";
  }
  SECTION("controller without a port") {
    options.controller = "localhost";
    name = "--controller is 'localhost': HOST:PORT wanted";
  }
  SECTION("credentials") {
    options.credentials = directory.path() + "/none";
    name = "--credentials";
  }
  const absl::Status status = RunAlone(options);
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(status.message().find(name) != std::string::npos);
}

TEST_CASE("a transport or fault that is unknown stops the agent", "[run_agent]") {
  TestDirectory directory;
  TestRegion engine(engine::SmallOptions(directory));
  engine.MakeReady();
  AgentOptions options = OptionsFor(engine.path());
  SECTION("transport") { options.transport = "pigeon"; }
  SECTION("fault") { options.fault = "explode:1"; }
  CHECK(RunAlone(options).code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("a second agent for a rank is refused", "[run_agent]") {
  TestDirectory directory;
  TestRegion engine(engine::SmallOptions(directory));
  engine.MakeReady();
  const auto first = engine::AgentRegion::Open(engine.path());
  REQUIRE(first.ok());
  const absl::Status status = RunAlone(OptionsFor(directory.path()));
  CHECK(status.code() == absl::StatusCode::kAlreadyExists);
  CHECK(ExitStatusOf(status) == 4);
}

TEST_CASE("what an agent ends with tells a supervisor whether to start it again", "[run_agent]") {
  CHECK(ExitStatusOf(absl::OkStatus()) == 0);
  CHECK(ExitStatusOf(absl::NotFoundError("gone")) == 1);
  CHECK(ExitStatusOf(absl::DataLossError("broken")) == 1);
  CHECK(ExitStatusOf(absl::InvalidArgumentError("--rank")) == 2);
}

TEST_CASE("a region of another group or rank is refused", "[run_agent]") {
  TestDirectory directory;
  TestRegion engine(engine::SmallOptions(directory));
  engine.MakeReady();
  AgentOptions options = OptionsFor(engine.path());
  SECTION("group") { options.group = "other"; }
  SECTION("rank") { options.rank = 2; }
  const absl::Status status = RunAlone(options);
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(status.message().find("wanted group") != std::string::npos);
}

TEST_CASE("a file that is no region, or none at all, stops an agent that was given its path", "[run_agent]") {
  TestDirectory directory;
  const std::string path = directory.path() + "/evenkeel.test.1.77";
  SECTION("garbage") { std::ofstream(path) << std::string(65536, 'x'); }
  SECTION("empty") { std::ofstream(path) << ""; }
  SECTION("nothing") {}
  const absl::Status status = RunAlone(OptionsFor(path));
  CHECK_FALSE(status.ok());
  CHECK(status.message().find(path) != std::string::npos);
}

TEST_CASE("an agent given a path ends well with its engine", "[run_agent]") {
  TestDirectory directory;
  auto engine = std::make_unique<TestRegion>(engine::SmallOptions(directory));
  engine->MakeReady();
  FakeController controller;
  absl::Status status = absl::UnknownError("still running");
  std::thread agent([&] { status = RunAlone(OptionsFor(engine->path(), controller.address())); });
  CHECK(controller.Await<Attach>());
  engine = nullptr;
  agent.join();
  CHECK(status.ok());
}

TEST_CASE("an agent given a directory waits for its engine, and for the next one after it", "[run_agent]") {
  TestDirectory directory;
  FakeController controller;
  Running agent(OptionsFor(directory.path(), controller.address()));
  CHECK_FALSE(controller.Await<Attach>([](const Attach&) { return true; }, absl::Milliseconds(200)));
  uint64_t first = 0;
  {
    TestRegion engine(engine::SmallOptions(directory));
    CHECK_FALSE(controller.Await<Attach>([](const Attach&) { return true; }, absl::Milliseconds(200)));  // not ready
    engine.MakeReady();
    const std::optional<Attach> attach = controller.Await<Attach>();
    REQUIRE(attach.has_value());
    first = attach->member.incarnation;
    CHECK(first == evenkeel_incarnation(engine.get()));
  }
  TestRegion engine(engine::SmallOptions(directory));
  engine.MakeReady();
  const std::optional<Attach> attach =
      controller.Await<Attach>([&](const Attach& m) { return m.member.incarnation != first; });
  REQUIRE(attach.has_value());
  CHECK(attach->member.incarnation == evenkeel_incarnation(engine.get()));
  CHECK(agent.Stop().ok());
}

}  // namespace
}  // namespace evenkeel::agent
