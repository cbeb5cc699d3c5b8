// SPDX-License-Identifier: Apache-2.0
#include "controller/daemon.h"

#include <cstdlib>
#include <string>
#include <variant>

#include "catch2/catch.hpp"

#include "tests/controller/fake_agent.h"
#include "tests/controller/running_daemon.h"

namespace evenkeel::controller {
namespace {

TEST_CASE("a controller's successor takes a higher term and knows the operations", "[daemon]") {
  ControllerSettings settings = QuickSettings();
  settings.store = std::string(std::getenv("TEST_TMPDIR")) + "/successor.db";
  const GroupInfo group = FakeGroup("chat");
  for (uint32_t term : {1u, 2u, 3u}) {
    Running running(settings);
    FakeAgent agent(running.daemon->address());
    REQUIRE(agent.Send(FakeAttach(group, 0)));
    const auto welcome = agent.Read(group);
    REQUIRE(welcome.has_value());
    CHECK(std::get<Welcome>(*welcome).term == term);
  }
}

TEST_CASE("a controller that hears a higher term ends and remembers it", "[daemon]") {
  ControllerSettings settings = QuickSettings();
  settings.store = std::string(std::getenv("TEST_TMPDIR")) + "/step-down.db";
  const GroupInfo group = FakeGroup("chat");
  {
    Running running(settings);
    while (ListGroups(running).term() == 0) {
    }
    FakeAgent agent(running.daemon->address());
    Attach attach = FakeAttach(group, 0);
    attach.term_obeyed = 41;
    REQUIRE(agent.Send(attach));
    REQUIRE(running.ended.WaitForNotificationWithTimeout(absl::Seconds(60)));
    CHECK(running.end.message() == "another controller leads with term 41");
  }
  Running running(settings);
  while (ListGroups(running).term() == 0) {
  }
  CHECK(ListGroups(running).term() == 42);
}

TEST_CASE("a second controller on the same port or store does not start", "[daemon]") {
  ControllerSettings settings = QuickSettings();
  settings.store = std::string(std::getenv("TEST_TMPDIR")) + "/second.db";
  Running running(settings);
  settings.listen = running.daemon->address();
  settings.store.clear();
  const auto same_port = Daemon::Start({.settings = settings, .on_end = {}});
  CHECK(same_port.status().message() ==
        "listen on " + settings.listen + ": the address is not ours, or already in use");
  settings.listen = "127.0.0.1:0";
  settings.store = std::string(std::getenv("TEST_TMPDIR")) + "/second.db";
  const auto same_store = Daemon::Start({.settings = settings, .on_end = {}});
  CHECK(same_store.status().code() == absl::StatusCode::kUnavailable);
}

TEST_CASE("stopping ends streams and calls with unavailable, and may be repeated", "[daemon]") {
  Running running;
  FakeAgent agent(running.daemon->address());
  const GroupInfo group = FakeGroup("chat");
  REQUIRE(agent.Send(FakeAttach(group, 0)));
  REQUIRE(agent.Read(group).has_value());
  running.daemon->Stop();
  running.daemon->Stop();
  const grpc::Status end = agent.End();
  CHECK(end.error_code() == grpc::StatusCode::UNAVAILABLE);
  CHECK(end.error_message() == "the controller ends");
}

}  // namespace
}  // namespace evenkeel::controller
