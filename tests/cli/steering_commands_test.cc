// SPDX-License-Identifier: Apache-2.0
//
// The commands that steer a group beside rearranging it, and the live view, over real gRPC.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "catch2/catch.hpp"
#include "nlohmann/json.hpp"

#include "cli/files/file.h"
#include "cli/keelctl.h"
#include "tests/cli/scripted_control.h"

namespace evenkeel::cli {
namespace {

TEST_CASE("an alert that is over is told, and is no problem any more", "[keelctl]") {
  Server server;
  v1::Alert* alert = server.control.group.add_alerts();
  alert->set_text("rank 3 is lost");
  alert->set_began_unix_us(1'000'000);
  CHECK(server.Run({"check"}) == 1);
  CHECK(Contains(server.out, "problem: alert since "));
  alert->set_ended_unix_us(2'000'000);
  CHECK(server.Run({"check"}) == 0);
  CHECK(Contains(server.out, "was an alert from "));
  CHECK(Contains(server.out, "nothing is wrong"));
}

TEST_CASE("a mode is set by its name, by whom keelctl says", "[keelctl]") {
  Server server;
  CHECK(server.Run({"mode", "shadow", "--reason=trial", "--as=ann"}) == 0);
  CHECK(server.control.mode_asked.mode() == "shadow");
  CHECK(server.control.mode_asked.reason() == "trial");
  CHECK(server.control.asked_by == "ann");
  CHECK(server.out == "group chat: mode shadow, until another is set (operation mode-1)\n");
  CHECK(server.Run({"mode"}) == 2);
  server.control.group.set_mode("shadow");
  server.control.group.set_mode_set_by("mode-1");
  v1::ShadowShares* shadow = server.control.group.mutable_shadow_shares();
  shadow->set_num_layers(2);
  shadow->set_imbalance_before(1.5);
  shadow->set_imbalance_after(1.125);
  CHECK(server.Run({"explain"}) == 0);
  CHECK(Contains(server.out, "mode shadow: decisions are recorded, none is carried out (set by mode-1)"));
  CHECK(Contains(server.out, "shares of 2 layers would change: imbalance 1.500 to 1.125"));
}

TEST_CASE("a map file is put in force, compared, and taken back", "[keelctl]") {
  Server server;
  const std::string path = std::string(std::getenv("TEST_TMPDIR")) + "/static.yaml";
  CHECK(server.Run({"map", "save"}) == 2);
  CHECK(server.Run({"map", "save", path}) == 0);
  CHECK(Contains(server.err, "written to " + path));
  REQUIRE(WriteFile(path, "num_slots: 6\ninitial_global_assignments:\n  0: [1, 1, 0, 0, 1, 0]\n").ok());
  server.control.operations = {ExampleOperation(v1::OPERATION_STATE_DONE)};
  CHECK(server.Run({"map", "apply", path, "--request-id=a", "--dry-run"}) == 0);
  REQUIRE(server.control.map_asked.layers_size() == 1);
  CHECK(server.control.map_asked.layers(0).expert_of_slot_size() == 6);
  CHECK(server.control.map_asked.request_id() == "a");
  CHECK(server.control.map_asked.dry_run());
  CHECK(server.Run({"map", "apply", path, "--layers=3"}) == 2);
  CHECK(server.Run({"map", "diff", "--map=" + path}) == 0);
  CHECK(server.control.diff_asked.layers_size() == 1);
  CHECK(Contains(server.out, "3 moves in 1 layers"));
  CHECK(Contains(server.out, "1 gets 7"));
  CHECK(server.Run({"map", "diff", "--before=op-1"}) == 0);
  CHECK(server.control.diff_asked.operation() == "op-1");
  CHECK(server.Run({"map", "rollback", "--epoch=3.14", "--pause"}) == 0);
  CHECK(server.control.rollback_asked.epoch().term() == 3);
  CHECK(server.control.rollback_asked.epoch().number() == 14);
  CHECK(server.control.group.pause_reason() == "rolled back");
  CHECK(server.Run({"map", "rollback", "--epoch=3"}) == 2);
  server.control.operations = {ExampleOperation(v1::OPERATION_STATE_FAILED)};
  CHECK(server.Run({"map", "rollback"}) == 1);
}

TEST_CASE("experts are pinned and layers frozen, until they are not", "[keelctl]") {
  Server server;
  CHECK(server.Run({"map", "pin", "--experts=3:17@5,4:1@0", "--layers=0-1", "--reason=why"}) == 0);
  REQUIRE(server.control.pin_asked.pins_size() == 2);
  CHECK(server.control.pin_asked.pins(0).layer() == 3);
  CHECK(server.control.pin_asked.pins(0).expert() == 17);
  CHECK(server.control.pin_asked.pins(0).rank() == 5);
  CHECK(server.control.pin_asked.frozen_layers_size() == 2);
  CHECK(Contains(server.out, "2 experts pinned, 2 layers frozen; 'keelctl map unpin --id=pin-1' ends it"));
  CHECK(server.Run({"map", "pin", "--experts=3:17"}) == 2);
  CHECK(Contains(server.err, "'3:17': LAYER:EXPERT@RANK wanted"));
  CHECK(server.Run({"map", "unpin", "--id=pin-1"}) == 0);
  CHECK(server.out == "pin-1 is ended\n");
  v1::StandingPins* pins = server.control.group.add_pins();
  pins->set_operation("pin-1");
  pins->add_frozen_layers(4);
  server.control.group.add_rollback_points()->set_operation("op-7");
  CHECK(server.Run({"groups", "--group=chat"}) == 0);
  CHECK(Contains(server.out, "pinned by pin-1: layers 4 frozen;"));
  CHECK(Contains(server.out, "may go back to before op-7"));
}

TEST_CASE("top shows all groups, redraws a terminal, and prints lines elsewhere", "[keelctl]") {
  Server server;
  server.control.group.set_running_operation("op-1");
  server.control.group.set_mode("full");
  server.control.group.add_alerts()->set_text("rank 3 is lost");
  server.control.operations = {ExampleOperation(v1::OPERATION_STATE_RUNNING)};
  CHECK(server.Run({"top", "--once"}) == 0);
  for (const char* part :
       {"chat", "full", "rearranging", "rank    0  x1.500", "op-1  [", "moves 1/4", "rank 3 is lost"}) {
    CAPTURE(part, server.out);
    CHECK(Contains(server.out, part));
  }
  CHECK_FALSE(Contains(server.out, "\033[2J"));
  CHECK(server.Run({"top"}) == 0);
  CHECK(std::count(server.out.begin(), server.out.end(), '\n') == 2);
  CHECK(server.Run({"top"}, true) == 0);
  CHECK(Contains(server.out, "\033[2J"));
  CHECK(server.Run({"top", "--once", "--json"}) == 0);
  CHECK(nlohmann::json::parse(server.out)["group"]["mode"] == "full");
  CHECK(server.Run({"top", "--once", "--group=other"}) == 1);
}

TEST_CASE("operations tell who asked, and who ended them", "[keelctl]") {
  Server server;
  v1::Operation operation = ExampleOperation(v1::OPERATION_STATE_CANCELLED);
  operation.set_requested_by("ann (ipv4:127.0.0.1:4711)");
  operation.set_request("SetMap");
  operation.set_ended_by("bob");
  server.control.operations = {operation};
  CHECK(server.Run({"operations"}) == 0);
  CHECK(Contains(server.out, "ann (127.0.0.1:4711), SetMap"));
  CHECK(Contains(server.out, "because; ended by bob"));
}

}  // namespace
}  // namespace evenkeel::cli
