// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "catch2/catch.hpp"
#include "httplib.h"
#include "nlohmann/json.hpp"

#include "controller/config.h"
#include "controller/daemon.h"

namespace evenkeel::controller {
namespace {

ControllerSettings OnAnyPort() {
  ControllerSettings settings;
  settings.listen = settings.http_listen = "127.0.0.1:0";
  return settings;
}

TEST_CASE("a controller serves HTTP beside gRPC, and is ready once it leads", "[http_daemon]") {
  auto daemon = Daemon::Start({.settings = OnAnyPort(), .on_end = [](const absl::Status&) {}});
  REQUIRE(daemon.ok());
  httplib::Client client("http://" + (*daemon)->http_address());
  CHECK(client.Get("/healthz")->status == 200);
  const absl::Time end = absl::Now() + absl::Seconds(30);
  const absl::Notification never;
  while (client.Get("/readyz")->status != 200 && absl::Now() < end) {
    never.WaitForNotificationWithTimeout(absl::Milliseconds(20));
  }
  CHECK(client.Get("/readyz")->status == 200);
  const auto groups = client.Post("/v1/ListGroups", "", "application/json");
  REQUIRE(groups);
  CHECK(nlohmann::json::parse(groups->body)["term"] == 1);
  CHECK(client.Get("/v1/GetGroup?group=chat")->status == 404);
  CHECK(absl::StrContains(client.Get("/metrics")->body, "evenkeel_controller_leading 1\n"));
  // A reader of a stream does not hold up the end.
  absl::Notification reads;
  std::thread reader([&] {
    httplib::Client other("http://" + (*daemon)->http_address());
    other.Get("/v1/WatchOperations", [&](const char*, size_t) {
      if (!reads.HasBeenNotified()) reads.Notify();
      return true;
    });
  });
  CHECK(reads.WaitForNotificationWithTimeout(absl::Seconds(30)));
  const absl::Time begin = absl::Now();
  (*daemon)->Stop();
  reader.join();
  CHECK(absl::Now() - begin < absl::Seconds(10));
}

TEST_CASE("a controller may have no HTTP port, and says when it cannot have it", "[http_daemon]") {
  ControllerSettings settings = OnAnyPort();
  settings.http_listen.clear();
  auto without = Daemon::Start({.settings = settings, .on_end = [](const absl::Status&) {}});
  REQUIRE(without.ok());
  CHECK((*without)->http_address().empty());
  auto first = Daemon::Start({.settings = OnAnyPort(), .on_end = [](const absl::Status&) {}});
  REQUIRE(first.ok());
  settings.http_listen = (*first)->http_address();
  const auto second = Daemon::Start({.settings = settings, .on_end = [](const absl::Status&) {}});
  CHECK(second.status().code() == absl::StatusCode::kUnavailable);
  CHECK(absl::StrContains(second.status().message(), settings.http_listen));
}

}  // namespace
}  // namespace evenkeel::controller
