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
  member.quiescence_lag = absl::Milliseconds(1500);
  member.num_suspecting = 2;
  group.members = {member, MemberStatus()};
  group.map_age = absl::Seconds(7);
  group.paused_by = "p1";
  group.totals.moving = absl::Milliseconds(2500);
  group.totals.shares_latency.Add(absl::Milliseconds(5));
  group.totals.shares_latency.Add(absl::Seconds(9));
  return group;
}

TEST_CASE("every group, rank and layer has its figures", "[metrics]") {
  const std::string text = MetricsText({.term = 3,
                                        .leading = true,
                                        .num_store_failures = 2,
                                        .num_tasks_refused = 6,
                                        .step_times = {},
                                        .operations_ended = {{"chat", "slow_loop", "skipped", 4}},
                                        .groups = {ExampleStatus("chat", 2)}});
  for (const char* line :
       {"evenkeel_controller_term 3\n",
        "evenkeel_controller_store_failures_total 2\n",
        "evenkeel_group_imbalance_ratio{group=\"chat\"} 1.25\n",
        "evenkeel_group_imbalance_worst_layer_ratio{group=\"chat\"} 2\n",
        "evenkeel_group_moves_total{group=\"chat\"} 12\n",
        "evenkeel_group_layer_decisions_total{group=\"chat\",decision=\"resting\"} 4\n",
        "evenkeel_group_free_redundancy_slots{group=\"chat\"} 2\n",
        "evenkeel_group_ranks_attached{group=\"chat\"} 1\n",
        "evenkeel_group_ranks_behind{group=\"chat\"} 2\n",
        "evenkeel_rank_steps_total{group=\"chat\",rank=\"0\"} 77\n",
        "evenkeel_layer_imbalance_ratio{group=\"chat\",layer=\"1\"} 2\n",
        "evenkeel_group_ineffective{group=\"chat\"} 0\n",
        "evenkeel_group_paused{group=\"chat\"} 1\n",
        "evenkeel_group_map_age_seconds{group=\"chat\"} 7\n",
        "evenkeel_group_quiescence_lag_seconds{group=\"chat\"} 1.5\n",
        "evenkeel_group_ranks_suspected{group=\"chat\"} 1\n",
        "evenkeel_group_phase_seconds_total{group=\"chat\",phase=\"moving\"} 2.5\n",
        "evenkeel_group_shares_latency_seconds_bucket{group=\"chat\",le=\"0.01\"} 1\n",
        "evenkeel_group_shares_latency_seconds_bucket{group=\"chat\",le=\"2.5\"} 1\n",
        "evenkeel_group_shares_latency_seconds_bucket{group=\"chat\",le=\"+Inf\"} 2\n",
        "evenkeel_group_operations_ended_total{group=\"chat\",cause=\"slow_loop\",state=\"skipped\"} 4\n",
        "evenkeel_controller_tasks_refused_total 6\n"}) {
    CAPTURE(line, text);
    CHECK(absl::StrContains(text, line));
  }
  CHECK(!absl::StrContains(text, "rank=\"1\""));  // nobody ever attached as it
}

TEST_CASE("a group that is on and does nothing says so", "[metrics]") {
  GroupStatus group = ExampleStatus("chat", 1);
  group.ineffective = {"the engine of rank 0 never called route"};
  CHECK(absl::StrContains(MetricsText({.term = 1,
                                       .leading = true,
                                       .num_store_failures = 0,
                                       .num_tasks_refused = 0,
                                       .step_times = {},
                                       .operations_ended = {},
                                       .groups = {group}}),
                          "evenkeel_group_ineffective{group=\"chat\"} 1\n"));
}

TEST_CASE("layers beyond the limit leave their group's means", "[metrics]") {
  const std::string text =
      MetricsText({.term = 1,
                   .leading = true,
                   .num_store_failures = 0,
                   .num_tasks_refused = 0,
                   .step_times = {},
                   .operations_ended = {},
                   .groups = {ExampleStatus("a", kLayerSeriesMax - 1), ExampleStatus("b", 2), ExampleStatus("c", 1)}});
  CHECK(absl::StrContains(text, "evenkeel_layer_imbalance_ratio{group=\"a\""));
  CHECK(!absl::StrContains(text, "evenkeel_layer_imbalance_ratio{group=\"b\""));
  CHECK(absl::StrContains(text, "evenkeel_layer_imbalance_ratio{group=\"c\""));
  CHECK(absl::StrContains(text, "evenkeel_group_imbalance_ratio{group=\"b\""));
}

TEST_CASE("promtool finds nothing wrong with the metrics' names and help", "[metrics]") {
  const std::string path = absl::StrCat(std::getenv("TEST_TMPDIR"), "/metrics.txt");
  std::ofstream(path) << MetricsText({.term = 3,
                                      .leading = true,
                                      .num_store_failures = 0,
                                      .num_tasks_refused = 0,
                                      .step_times = {},
                                      .operations_ended = {},
                                      .groups = {ExampleStatus("a\"\\\n", 2)}});
  REQUIRE(std::system("command -v promtool >/dev/null") == 0);
  CHECK(std::system(absl::StrCat("promtool check metrics < ", path).c_str()) == 0);
}

}  // namespace
}  // namespace evenkeel::controller
