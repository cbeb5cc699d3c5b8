// SPDX-License-Identifier: Apache-2.0
#include "controller/http/metrics.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "catch2/catch.hpp"

namespace evenkeel::controller {
namespace {

GroupStatus ExampleStatus(const std::string& name, int num_layers) {
  GroupStatus group;
  group.name = name;
  group.epoch = {.term = 3, .number = 7};
  group.imbalance_now = 1.25;
  group.totals.moves = 12;
  group.totals.layers_resting = 4;
  for (int l = 0; l < num_layers; ++l) {
    LayerStatus layer;
    layer.layer = LayerId(l);
    layer.imbalance_now = 1 + l;
    layer.free_redundancy = 3 - l % 2;
    group.layers.push_back(layer);
  }
  MemberStatus member;
  member.member = {.rank = RankId(0), .incarnation = 9};
  member.attached = member.alive = true;
  member.num_steps = 77;
  member.quiesced_epoch = {.term = 3, .number = 6};
  group.members = {member, MemberStatus()};
  return group;
}

TEST_CASE("every group, rank and layer has its figures", "[metrics]") {
  const std::string text =
      MetricsText({.term = 3, .leading = true, .num_store_failures = 2, .groups = {ExampleStatus("chat", 2)}});
  for (const char* line :
       {"evenkeel_controller_term 3\n", "evenkeel_controller_store_failures_total 2\n",
        "evenkeel_group_imbalance_ratio{group=\"chat\"} 1.25\n",
        "evenkeel_group_imbalance_worst_layer_ratio{group=\"chat\"} 2\n",
        "evenkeel_group_moves_total{group=\"chat\"} 12\n",
        "evenkeel_group_layer_decisions_total{group=\"chat\",decision=\"resting\"} 4\n",
        "evenkeel_group_free_redundancy_slots{group=\"chat\"} 2\n", "evenkeel_group_ranks_attached{group=\"chat\"} 1\n",
        "evenkeel_group_ranks_behind{group=\"chat\"} 2\n", "evenkeel_rank_steps_total{group=\"chat\",rank=\"0\"} 77\n",
        "evenkeel_layer_imbalance_ratio{group=\"chat\",layer=\"1\"} 2\n",
        "evenkeel_group_ineffective{group=\"chat\"} 0\n"}) {
    CAPTURE(line, text);
    CHECK(absl::StrContains(text, line));
  }
  CHECK(!absl::StrContains(text, "rank=\"1\""));  // nobody ever attached as it
}

TEST_CASE("a group that is on and does nothing says so", "[metrics]") {
  GroupStatus group = ExampleStatus("chat", 1);
  group.members[0].missing_calls = {"never called route"};
  CHECK(absl::StrContains(MetricsText({.term = 1, .leading = true, .num_store_failures = 0, .groups = {group}}),
                          "evenkeel_group_ineffective{group=\"chat\"} 1\n"));
}

TEST_CASE("layers beyond the limit leave their group's means", "[metrics]") {
  const std::string text =
      MetricsText({.term = 1,
                   .leading = true,
                   .num_store_failures = 0,
                   .groups = {ExampleStatus("a", kLayerSeriesMax - 1), ExampleStatus("b", 2), ExampleStatus("c", 1)}});
  CHECK(absl::StrContains(text, "evenkeel_layer_imbalance_ratio{group=\"a\""));
  CHECK(!absl::StrContains(text, "evenkeel_layer_imbalance_ratio{group=\"b\""));
  CHECK(absl::StrContains(text, "evenkeel_layer_imbalance_ratio{group=\"c\""));
  CHECK(absl::StrContains(text, "evenkeel_group_imbalance_ratio{group=\"b\""));
}

TEST_CASE("promtool finds nothing wrong with the metrics' names and help", "[metrics]") {
  const std::string path = absl::StrCat(std::getenv("TEST_TMPDIR"), "/metrics.txt");
  std::ofstream(path) << MetricsText(
      {.term = 3, .leading = true, .num_store_failures = 0, .groups = {ExampleStatus("a\"\\\n", 2)}});
  REQUIRE(std::system("command -v promtool >/dev/null") == 0);
  CHECK(std::system(absl::StrCat("promtool check metrics < ", path).c_str()) == 0);
}

}  // namespace
}  // namespace evenkeel::controller
