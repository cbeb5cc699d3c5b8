// SPDX-License-Identifier: Apache-2.0
//
// keelctl against a Control service that answers from a script, over real gRPC.
#include "cli/keelctl.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "catch2/catch.hpp"
#include "nlohmann/json.hpp"

#include "cli/files/file.h"
#include "cli/files/loads.h"
#include "cli/files/map_formats.h"
#include "tests/cli/scripted_control.h"

namespace evenkeel::cli {
namespace {

TEST_CASE("groups are listed, one a line, and shown whole when named", "[keelctl]") {
  Server server;
  CHECK(server.Run({"groups"}) == 0);
  CHECK(Contains(server.out, "chat   steady"));
  CHECK(Contains(server.out, "1.250"));
  server.control.group.mutable_members(1)->add_missing_calls("never called begin_step");
  server.control.group.add_alerts()->set_text("slot 3 condemned");
  server.control.group.set_mode("shadow");
  server.control.group.add_waves_blocked()->set_reason("not quiesced");
  server.control.group.set_static_reason("no redundant slot");
  CHECK(server.Run({"groups", "--group=chat"}) == 0);
  for (const char* part :
       {"never called begin_step", "alert since ", "slot 3 condemned", "shadow", "not quiesced", "no redundant slot"}) {
    CAPTURE(part);
    CHECK(Contains(server.out, part));
  }
  CHECK(server.Run({"groups", "--group=other"}) == 1);
  CHECK(Contains(server.err, "no group other"));
  server.control.group.Clear();
  CHECK(server.Run({"groups"}) == 0);
  CHECK(server.out == "no group has attached yet\n");
}

TEST_CASE("ranks show how each stands and what it waits for", "[keelctl]") {
  Server server;
  CHECK(server.Run({"ranks"}) == 0);
  CHECK(Contains(server.out, "chat: 1 ranks serve, at most 4; view 8"));
  CHECK(Contains(server.out, "draining"));
  CHECK(Contains(server.out, "is being emptied; drain-1"));
  CHECK(Contains(server.out, "waits"));                                        // rank 2
  CHECK(std::count(server.out.begin(), server.out.end(), '\n') == 2 + 1 + 3);  // rank 3 is left out
  CHECK(server.Run({"ranks", "--all"}) == 0);
  CHECK(std::count(server.out.begin(), server.out.end(), '\n') == 2 + 1 + 4);
  CHECK(server.Run({"ranks", "--json"}) == 0);
  CHECK(Contains(server.out, "\"standing\":\"RANK_STANDING_DRAINING\""));
}

TEST_CASE("watching ranks prints a line for each that changes", "[keelctl]") {
  Server server;
  CHECK(server.Run({"ranks", "--watch"}) == 0);
  CHECK(std::count(server.out.begin(), server.out.end(), '\n') == 3 + 1);
  CHECK(Contains(server.out, "rank 1  left, safe to terminate"));
  server.control.membership = ExampleMembership();
  CHECK(server.Run({"ranks", "--watch", "--json"}) == 0);
  CHECK(std::count(server.out.begin(), server.out.end(), '\n') == 3);
}

TEST_CASE("ranks are admitted and drained by number, in words and ranges", "[keelctl]") {
  Server server;
  server.control.operations = {ExampleOperation(v1::OPERATION_STATE_RUNNING),
                               ExampleOperation(v1::OPERATION_STATE_DONE)};
  server.control.operations[0].add_ranks(8);
  CHECK(server.Run({"admit", "8", "10-11", "--request-id=a"}) == 0);
  CHECK(server.control.admitted.ranks_size() == 3);
  CHECK(server.control.admitted.ranks(2) == 11);
  CHECK(server.control.admitted.request_id() == "a");
  CHECK(Contains(server.err, "running"));
  CHECK(Contains(server.err, "because"));  // what it waits for
  CHECK(Contains(server.out, "operation op-1 done: because"));
  CHECK(server.Run({"drain", "3", "--grace=2.5"}) == 0);
  CHECK(server.control.drained.grace_ms() == 2500);
  CHECK(server.Run({"drain", "3"}) == 0);
  CHECK_FALSE(server.control.drained.has_grace_ms());
  server.control.operations = {ExampleOperation(v1::OPERATION_STATE_FAILED)};
  CHECK(server.Run({"admit", "8"}) == 1);
  server.control.operations.clear();
  CHECK(server.Run({"drain", "3"}) == 1);
  CHECK(Contains(server.err, "no room for 2 of experts 3, 7"));
  CHECK(server.Run({"drain"}) == 2);
  CHECK(Contains(server.err, "RANK... is missing"));
  CHECK(server.Run({"drain", "x"}) == 2);
  CHECK(Contains(server.err, "RANK... x: 'x' is neither a number nor a range"));
  CHECK(server.Run({"drain", "1", "--grace=-1"}) == 2);
}

TEST_CASE("stats show ranks as bars and the busiest experts", "[keelctl]") {
  Server server;
  CHECK(server.Run({"stats", "--experts"}) == 0);
  CHECK(Contains(server.out, "imbalance 1.500"));
  CHECK(Contains(server.out, "0 x2.0  1 x1.0"));
  CHECK(Contains(server.out, "##############################"));
  CHECK(server.Run({"stats", "--json"}) == 0);
  CHECK(Contains(server.out, "\"imbalance_realised\":1.5"));
  CHECK(server.Run({"stats", "--windows=0"}) == 2);
}

TEST_CASE("a watch prints one line per update, and redraws a terminal", "[keelctl]") {
  Server server;
  CHECK(server.Run({"stats", "--watch"}) == 0);
  CHECK(std::count(server.out.begin(), server.out.end(), '\n') == 2);
  CHECK(server.Run({"stats", "--watch"}, true) == 0);
  CHECK(Contains(server.out, "\033[2J"));
  CHECK(server.Run({"stats", "--watch", "--json"}, true) == 0);
  CHECK(Contains(server.out, "\"term\":1,\"number\":7"));
}

TEST_CASE("a map tells each replica's part", "[keelctl]") {
  Server server;
  CHECK(server.Run({"map", "--layers=0"}) == 0);
  CHECK(Contains(server.out, "rank 0 slot 0 25%  rank 1 slot 4 75%"));
  CHECK(Contains(server.out, "no live replica"));
  CHECK(server.Run({"map", "--layers=9-1"}) == 2);
  CHECK(server.Run({"map", "--json"}) == 0);
}

TEST_CASE("a map tells which replica a rank sends to where it sends to one alone", "[keelctl]") {
  Server server;
  const auto slots = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"map", "--json"});
    CHECK(server.Run(words) == 0);
    return nlohmann::json::parse(server.out)["layers"][0]["slots"].get<std::vector<int>>();
  };
  // Slots 0 to 2 are of rank 0; expert 1 has no live replica.
  CHECK(slots({"--rank=0", "--prefer=near"}) == std::vector<int>{0, -1});
  CHECK(slots({"--rank=1", "--prefer=near"}) == std::vector<int>{4, -1});
  CHECK(slots({"--rank=1", "--prefer=remote"}) == std::vector<int>{0, -1});
  CHECK(slots({"--rank=1", "--prefer=near", "--avoid=1"}) == std::vector<int>{0, -1});
  CHECK(slots({"--rank=1", "--avoid=0-1", "--prefer=near", "--hosts=7,7"}) == std::vector<int>{4, -1});
  CHECK(slots({"--rank=0", "--seed=3"}) != slots({"--rank=1", "--seed=3"}));
  CHECK(server.Run({"map", "--rank=0"}) == 0);
  CHECK(Contains(server.out, "no live replica"));
  for (const char* wrong : {"--rank=2", "--rank=0 --prefer=far", "--rank=0 --hosts=1", "--rank=0 --hosts=1,x",
                            "--rank=0 --avoid=2", "--prefer=near", "--rank=0 --out=x"}) {
    CAPTURE(wrong);
    std::vector<std::string> words = absl::StrSplit(wrong, ' ');
    words.insert(words.begin(), "map");
    CHECK(server.Run(words) == 2);
  }
}

std::string TempFile(const std::string& name) {
  const char* folder = std::getenv("TEST_TMPDIR");
  return std::string(folder != nullptr ? folder : "/tmp") + "/keelctl_test_" + name;
}

TEST_CASE("maps and loads of a group are written to files that plans are made from", "[keelctl]") {
  Server server;
  const std::string map = TempFile("map.json"), loads = TempFile("loads.json");
  CHECK(server.Run({"map", "--out", map}) == 0);
  CHECK(server.out.empty());
  const auto read = ReadMap(map, std::nullopt, {});
  REQUIRE(read.status() == absl::OkStatus());
  REQUIRE(read->layers.size() == 1);
  CHECK(SlotsOf(read->layers[0].placement) == std::vector<int>{0, -1, -1, -1, 0, -1});
  CHECK(read->layers[0].shares == algos::Shares{0.25, 0.75});
  CHECK(server.Run({"map", "--out", map, "--format=sglang"}) == 2);
  CHECK(Contains(server.err, "blank"));
  CHECK(server.Run({"map", "--out", map, "--layers=0"}) == 2);
  CHECK(server.Run({"stats", "--out", loads}) == 0);
  const auto windows = ReadLoads(loads);
  REQUIRE(windows.status() == absl::OkStatus());
  CHECK(windows->front().tokens == std::vector<uint64_t>{200, 100, 50, 50});
  CHECK(server.Run({"stats", "--watch", "--out", loads}) == 2);
}

TEST_CASE("a static rearrangement sends the placements of a map file", "[keelctl]") {
  Server server;
  server.control.operations = {ExampleOperation(v1::OPERATION_STATE_DONE)};
  const std::string map = TempFile("static.yaml");
  REQUIRE(WriteFile(map, "num_slots: 6\ninitial_global_assignments:\n  0: [1, 1, 0, 0, 1, 0]\n").ok());
  CHECK(server.Run({"rearrange", "--policy=static", "--map", map}) == 0);
  CHECK(server.control.asked.policy() == "static");
  REQUIRE(server.control.asked.placements_size() == 1);
  const auto& slots = server.control.asked.placements(0).expert_of_slot();
  CHECK(std::vector<int>(slots.begin(), slots.end()) == std::vector<int>{1, 1, 0, 0, 1, 0});
  CHECK(server.Run({"rearrange", "--policy=static", "--map", TempFile("none")}) == 1);
}

TEST_CASE("a rearrangement passes on what was asked and ends with its state", "[keelctl]") {
  Server server;
  server.control.operations = {ExampleOperation(v1::OPERATION_STATE_RUNNING),
                               ExampleOperation(v1::OPERATION_STATE_DONE)};
  CHECK(server.Run({"rearrange", "--dry-run", "--policy=greedy", "--layers=0,2", "--request-id=r"}) == 0);
  CHECK(server.control.asked.dry_run());
  CHECK(server.control.asked.policy() == "greedy");
  CHECK(server.control.asked.layers_size() == 2);
  CHECK(server.control.asked.request_id() == "r");
  CHECK(Contains(server.out, "operation op-1 done: because"));
  CHECK(Contains(server.err, "moves 1/4"));
  CHECK(server.Run({"rearrange"}, true) == 0);
  CHECK(Contains(server.err, "\r\033[2K"));
  server.control.operations = {ExampleOperation(v1::OPERATION_STATE_FAILED)};
  CHECK(server.Run({"rearrange", "--json"}) == 1);
  CHECK(Contains(server.out, "OPERATION_STATE_FAILED"));
}

TEST_CASE("check fails when something is wrong, and says what", "[keelctl]") {
  Server server;
  CHECK(server.Run({"check"}) == 0);
  CHECK(Contains(server.out, "nothing is wrong"));
  server.control.group.mutable_members(0)->set_attached(false);
  server.control.group.mutable_members(0)->set_note("its agent is away");
  server.control.group.mutable_members(1)->set_num_calls_waited(2);
  server.control.group.set_static_reason("static maps: there is no redundant slot");
  server.control.group.set_store_problem("disk is full");
  server.control.problems = {"static maps: there is no redundant slot", "rank 0 is away: its agent does not speak"};
  CHECK(server.Run({"check"}) == 1);
  const auto count = [&](const std::string& text) {
    int found = 0;
    for (size_t at = server.out.find(text); at != std::string::npos; at = server.out.find(text, at + 1)) ++found;
    return found;
  };
  CHECK(count("rank 0") == 1);
  CHECK(count("no redundant slot") == 1);
  CHECK(count("problem:") == 4);
  CHECK(Contains(server.out, "rank 1: 2 calls of the engine library waited"));
  CHECK(Contains(server.out, "the controller's store: disk is full"));
  CHECK(server.Run({"check", "--json"}) == 1);
  CHECK(Contains(server.out, "its agent does not speak"));
}

TEST_CASE("an operation is cancelled by its id, wherever the options stand", "[keelctl]") {
  Server server;
  server.control.operations = {ExampleOperation(v1::OPERATION_STATE_RUNNING)};
  const std::string id = server.control.operations[0].id();
  CHECK(server.Run({"operations", "cancel", id}) == 0);
  CHECK(Contains(server.out, "operation " + id + " is cancelled"));
  CHECK(server.Run({"--json", "operations", "cancel", id}) == 0);
  CHECK(Contains(server.out, "OPERATION_STATE_CANCELLED"));
  CHECK(server.Run({"operations", "cancel", "nobody"}) == 1);
  CHECK(Contains(server.err, "unknown operation nobody"));
  CHECK(server.Run({"operations", "cancel"}) == 2);
  CHECK(Contains(server.err, "ID is missing"));
}

TEST_CASE("a group is paused and resumed, and check says while it is or has no effect", "[keelctl]") {
  Server server;
  CHECK(server.Run({"pause", "--reason=upgrade"}) == 0);
  CHECK(Contains(server.out, "group chat is paused; 'keelctl resume' ends it (operation pause-1)"));
  CHECK(server.Run({"check"}) == 1);
  CHECK(Contains(server.out, "problem: paused by an operator: upgrade"));
  CHECK(server.Run({"resume"}) == 0);
  CHECK(Contains(server.out, "group chat is balanced by the controller again"));
  server.control.group.clear_paused_by();
  CHECK(server.Run({"resume"}) == 1);
  CHECK(Contains(server.err, "group chat is not paused"));
  server.control.group.add_ineffective("engines run, but no load was counted for 40s");
  CHECK(server.Run({"check"}) == 1);
  CHECK(Contains(server.out, "problem: balancing is on but has no effect: engines run, but no load"));
}

TEST_CASE("the last decision is explained, with what keeps the controller from acting", "[keelctl]") {
  Server server;
  CHECK(server.Run({"explain"}) == 0);
  CHECK(server.out == "nothing was decided yet\n");
  v1::Operation pause = ExampleOperation(v1::OPERATION_STATE_RUNNING);
  pause.set_cause(v1::OPERATION_CAUSE_PAUSE);
  v1::Operation skipped = ExampleOperation(v1::OPERATION_STATE_SKIPPED);
  skipped.set_cause(v1::OPERATION_CAUSE_SLOW_LOOP);
  skipped.set_retiring_us(1'500'000);
  for (int layer = 0; layer < 3; ++layer) {
    v1::LayerDecision* decision = skipped.add_decisions();
    decision->set_layer(static_cast<uint32_t>(layer));
    decision->set_reason(layer < 2 ? "its load is steady" : "the gain is small");
  }
  server.control.operations = {pause, skipped};
  server.control.group.set_paused_by("op-1");
  server.control.group.add_ineffective("static maps");
  CHECK(server.Run({"explain", "--layers"}) == 0);
  for (const char* part : {"paused by an operator", "has no effect: static maps", "by slow loop, skipped: because",
                           "    2 layers: its load is steady", "waited for ranks 1.500 s", "the gain is small"}) {
    CAPTURE(part, server.out);
    CHECK(Contains(server.out, part));
  }
  CHECK(server.Run({"explain", "--json"}) == 0);
  CHECK(Contains(server.out, "OPERATION_CAUSE_SLOW_LOOP"));
}

TEST_CASE("load is shown as heat, and recorded as simulate reads it", "[keelctl]") {
  Server server;
  CHECK(server.Run({"heat"}) == 0);
  CHECK(Contains(server.out, "0 |"));
  CHECK(Contains(server.out, "a cell the highest of 1 experts"));
  CHECK(server.Run({"heat", "--ranks"}) == 0);
  CHECK(Contains(server.out, "1 ranks"));
  CHECK(server.Run({"heat", "--layers=7"}) == 2);
  CHECK(Contains(server.err, "layer 7: the group's layers are 0 to 0"));
  const std::string path = std::string(std::getenv("TEST_TMPDIR")) + "/load.npy";
  CHECK(server.Run({"record", path, "--windows=1"}) == 0);
  CHECK(server.out == "1 windows of 1 layers x 4 experts written to " + path + "\n");
  CHECK(server.Run({"show", path}) == 0);
  CHECK(server.Run({"record", path, "--windows=2"}) == 1);  // the controller ended after one
  CHECK(server.Run({"record"}) == 2);
}

TEST_CASE("bash is told the commands and the options of each", "[keelctl]") {
  Server server;
  CHECK(server.Run({"completion"}) == 0);
  for (const char* part :
       {"operations", "rearrange) options=\"", "--dry-run ", "--policy= ", "complete -o default -F"}) {
    CAPTURE(part);
    CHECK(Contains(server.out, part));
  }
  const std::string path = std::string(std::getenv("TEST_TMPDIR")) + "/completion";
  std::ofstream(path) << server.out;
  const std::string script =
      "source " + path +
      "; COMP_WORDS=(keelctl rearrange --dr); COMP_CWORD=2; _keelctl; "
      "[ \"${COMPREPLY[*]}\" = --dry-run ] && COMP_WORDS=(keelctl exp) COMP_CWORD=1 && _keelctl && "
      "[ \"${COMPREPLY[*]}\" = explain ]";
  CHECK(std::system(("bash -c '" + script + "'").c_str()) == 0);
}

TEST_CASE("operations are listed and watched", "[keelctl]") {
  Server server;
  CHECK(server.Run({"operations"}) == 0);
  CHECK(server.out == "no operation yet\n");
  server.control.operations = {ExampleOperation(v1::OPERATION_STATE_DONE),
                               ExampleOperation(v1::OPERATION_STATE_SKIPPED)};
  CHECK(server.Run({"operations", "--last=1"}) == 0);
  CHECK(Contains(server.out, "done"));
  CHECK_FALSE(Contains(server.out, "skipped"));
  CHECK(server.Run({"operations", "--watch"}) == 0);
  CHECK(Contains(server.out, "skipped"));
  CHECK(server.Run({"operations", "--watch", "--json"}) == 0);
}

TEST_CASE("what is typed wrong is taught, and a controller away is said", "[keelctl]") {
  Server server;
  CHECK(server.Run({}) == 2);
  CHECK(server.Run({"--help"}) == 0);
  CHECK(server.Run({"--version"}) == 0);
  CHECK(server.Run({"rearrange", "--help"}) == 0);
  CHECK(Contains(server.out, "--dry-run"));
  CHECK(server.Run({"dance"}) == 2);
  CHECK(server.Run({"groups", "--nope"}) == 2);
  CHECK(server.Run({"--credentials", "/nowhere/roots.pem", "groups"}) == 2);
  CHECK(server.err == "keelctl groups: --credentials: cannot read /nowhere/roots.pem\n");
  server.server->Shutdown();
  CHECK(server.Run({"--controller=127.0.0.1:1", "groups"}) == 3);
  CHECK(Contains(server.err, "is a controller running there?"));
}

}  // namespace
}  // namespace evenkeel::cli
