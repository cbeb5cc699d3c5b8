// SPDX-License-Identifier: Apache-2.0
#include "controller/core/alerts.h"

#include <algorithm>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

TEST_CASE("the alert of an engine's end lasts until another takes its place", "[alerts]") {
  Cluster::Options options = Basic();
  options.may_lose_experts = true;
  Cluster cluster(options);
  Start(cluster);
  EngineStatus ended;
  ended.alive = false;
  cluster.Send(1, ended);
  cluster.Settle();
  REQUIRE_FALSE(cluster.Status().alerts.empty());
  const Alert first = cluster.Status().alerts.front();
  CHECK(first.text == "the engine of rank 1 has ended");
  CHECK(first.began <= cluster.now);
  cluster.Run(absl::Seconds(2));
  const std::vector<Alert> alerts = cluster.Status().alerts;
  const auto lost =
      std::ranges::find_if(alerts, [](const Alert& one) { return one.text.find("rank 1 is lost: ") == 0; });
  REQUIRE(lost != alerts.end());
  CHECK_FALSE(lost->ended.has_value());
  CHECK(cluster.Status().alerts.front().ended.has_value());  // it is expelled: that is another alert
}

TEST_CASE("alerts that ended make room first", "[alerts]") {
  Alerts alerts;
  const absl::Time now = absl::FromUnixSeconds(1);
  alerts.Raise(
      "lasts", [](const GroupState&) { return true; }, now);
  for (size_t i = 0; i < 2 * Alerts::kKept; ++i) alerts.Raise(std::to_string(i), nullptr, now);
  REQUIRE(alerts.list().size() == Alerts::kKept);
  CHECK(alerts.list()[0] == Alert{"lasts", now, std::nullopt});
  CHECK(alerts.list().back() == Alert{std::to_string(2 * Alerts::kKept - 1), now, now});
  alerts.EndAll(now);
  alerts.Raise("newest", nullptr, now);
  CHECK(alerts.list()[0].text != "lasts");
}

}  // namespace
}  // namespace evenkeel::controller
