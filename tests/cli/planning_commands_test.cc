// SPDX-License-Identifier: Apache-2.0
//
// plan, convert, show and policies as they are typed, on files alone.
#include <cmath>
#include <string>
#include <vector>

#include "catch2/catch.hpp"
#include "nlohmann/json.hpp"

#include "algos/moves.h"
#include "algos/placement.h"
#include "algos/policies/registry.h"
#include "cli/files/file.h"
#include "cli/files/loads.h"
#include "cli/files/map_formats.h"
#include "tests/cli/typed_planning.h"

namespace evenkeel::cli {
namespace {

TEST_CASE("the known example is planned as its policy publishes it, before and after named", "[plan]") {
  const json plan = JsonOf(Plan({"--window=0:2", "--policy=deepseek", "--expert-bytes=1000"}));
  CHECK(plan["num_windows"] == 2);
  CHECK(plan["num_redundant"] == 8);
  for (const json& layer : plan["layers"]) {
    CHECK(layer["imbalance_before"].get<double>() == Approx(580 / 181.25));
    CHECK(layer["imbalance_even"].get<double>() == Approx(232 / 181.25));
    CHECK(layer["imbalance_shares"].get<double>() <= layer["imbalance_even"].get<double>());
    CHECK(layer["bytes"] == 1000 * layer["moves"].get<int>());
  }
  CHECK(plan["moves"] == plan["layers"][0]["moves"].get<int>() + plan["layers"][1]["moves"].get<int>());
  CHECK(plan["bytes"] == 1000 * plan["moves"].get<int>());
}

TEST_CASE("the table has a line a layer and one for all", "[plan]") {
  const Answer answer = Type(Plan({"--policy=deepseek", "--window=:1", "--expert-bytes=44040192"}));
  REQUIRE(answer.status == 0);
  CHECK_THAT(answer.out, Catch::StartsWith("2 layers, 8 experts in 16 slots on 8 ranks (8 redundant), 1 window, "
                                           "policy deepseek\n\nLAYER  BEFORE   EVEN  SHARES  MOVES"));
  CHECK_THAT(answer.out, Catch::Contains("\n    0   3.200  1.280  "));
  CHECK_THAT(answer.out, Catch::Contains("\n    1   3.200  1.280  "));
  CHECK_THAT(answer.out, Catch::Contains("\n  all   3.200  1.280  ") && Catch::Contains(" MB\n"));
  CHECK_THAT(answer.err, Catch::StartsWith("planned in "));
}

TEST_CASE("every policy plans, and what it writes can be read in every form", "[plan]") {
  for (const algos::NamedPolicy& policy : algos::AllPolicies()) {
    if (policy.name == "static") continue;
    for (const std::string format : {"evenkeel", "expert_map", "sglang", "trtllm"}) {
      CAPTURE(policy.name, format);
      const std::string out = Folder() + "plan." + format;
      const Answer answer = Type(Plan({"--policy", std::string(policy.name), "--out", out, "--format", format}));
      CAPTURE(answer.err);
      REQUIRE(answer.status == 0);
      const MapFile map = MapIn(out, 8);
      CHECK(map.shape == algos::Shape{.num_experts = 8, .num_ranks = 8, .slots_per_rank = 2});
      REQUIRE(map.layers.size() == 2);
      for (const algos::LayerPlan& layer : map.layers) CHECK(algos::Validate(layer.placement, map.shape).ok());
    }
  }
}

TEST_CASE("a current map says ranks and slots, and a budget of no moves keeps it", "[plan]") {
  const std::string current = Folder() + "current.json", out = Folder() + "kept.json";
  REQUIRE(Type(Plan({"--policy=greedy", "--out", current})).status == 0);
  const json plan = JsonOf({"plan", "--loads", Loads(), "--current", current, "--policy=greedy", "--max-moves=0",
                            "--window=2:3", "--out", out});
  CHECK(plan["num_ranks"] == 8);
  CHECK(plan["moves"] == 0);
  CHECK(plan["imbalance_before"] == plan["imbalance_even"]);
  const MapFile was = MapIn(current), is = MapIn(out);
  for (size_t l = 0; l < was.layers.size(); ++l) {
    CHECK(algos::CountMoves(was.shape, was.layers[l].placement, is.layers[l].placement) == 0);
  }
}

TEST_CASE("the static policy takes a map over as it is", "[plan]") {
  const std::string map = Folder() + "static.yaml", out = Folder() + "taken.json";
  REQUIRE(Type(Plan({"--policy=deepseek", "--out", map, "--format=trtllm"})).status == 0);
  const Answer answer = Type({"plan", "--loads", Loads(), "--ranks=8", "--policy=static", "--map", map, "--out", out});
  CAPTURE(answer.err);
  REQUIRE(answer.status == 0);
  CHECK(MapIn(out) == MapIn(map, 8));
}

TEST_CASE("a policy's number is as good as its name", "[plan]") {
  for (const algos::NamedPolicy& policy : algos::AllPolicies()) {
    if (policy.alias.empty() || policy.name == "static") continue;
    CHECK(JsonOf(Plan({"--policy", std::string(policy.alias)}))["policy"] == std::string(policy.name));
  }
}

TEST_CASE("a budget without a current map counts from the initial placement", "[plan]") {
  const json plan = JsonOf(Plan({"--policy=greedy", "--max-moves=2"}));
  for (const json& layer : plan["layers"]) {
    CHECK(layer["moves"].get<int>() <= 2);
    CHECK(layer["imbalance_even"].get<double>() <= layer["imbalance_before"].get<double>());
  }
}

TEST_CASE("layers that are not planned stay as they are", "[plan]") {
  const json plan = JsonOf(Plan({"--policy=greedy", "--layers=1", "--window=:1"}));
  CHECK(plan["layers"][0]["moves"] == 0);
  CHECK(plan["layers"][1]["moves"].get<int>() > 0);
}

TEST_CASE("dead ranks hold nothing, and pins hold", "[plan]") {
  const std::string out = Folder() + "dead.json";
  const Answer answer = Type(Plan({"--policy=greedy", "--dead-ranks=0,6-7", "--pin=0:7:3,1:7:3", "--out", out}));
  CAPTURE(answer.err);
  REQUIRE(answer.status == 0);
  const MapFile map = MapIn(out);
  for (const algos::LayerPlan& layer : map.layers) {
    const std::vector<int> slots = SlotsOf(layer.placement);
    for (size_t slot : {0u, 1u, 12u, 13u, 14u, 15u}) CHECK(slots[slot] == -1);
    CHECK((slots[6] == 7 || slots[7] == 7));
  }
  const Answer refused = Type(Plan({"--policy=greedy", "--dead-ranks=0", "--out", out, "--format=sglang"}));
  CHECK(refused.status == 2);
  CHECK_THAT(refused.err, Catch::Contains("slot 0 is blank, which sglang cannot say"));
}

TEST_CASE("what dead ranks held serves nothing before, and experts lost with them are counted", "[plan]") {
  const std::string map = Folder() + "whole.json";
  REQUIRE(Type(Plan({"--policy=greedy", "--out", map})).status == 0);
  const std::vector<std::string> words = {
      "plan", "--loads", Loads(), "--current", map, "--policy=greedy", "--dead-ranks=0,1,2,3"};
  const json plan = JsonOf(words);
  CHECK(plan["imbalance_before"].get<double>() >= 1);
  int lost = 0;
  for (const json& layer : plan["layers"]) {
    CHECK(layer["imbalance_before"].get<double>() >= 1);
    lost += layer.value("experts_lost_before", 0);
  }
  CHECK(lost > 0);
  CHECK(plan["experts_lost_before"] == lost);
  CHECK_THAT(Type(words).out, Catch::Contains("BEFORE leaves out the tokens of " + std::to_string(lost) + " lost"));
}

TEST_CASE("a policy's own shares stand beside the best ones", "[plan]") {
  const Answer answer = Type(Plan({"--policy=flex"}));
  REQUIRE(answer.status == 0);
  CHECK_THAT(answer.out, Catch::Contains("SHARES  ITS SHARES  MOVES") &&
                             Catch::Contains("all columns judge the sum of the windows"));
  const json plan = JsonOf(Plan({"--policy=flex"}));
  for (const json& layer : plan["layers"]) {
    CHECK(layer["imbalance_shares"].get<double>() <= layer["imbalance_own_shares"].get<double>() + 1e-9);
    CHECK(layer["imbalance_shares"].get<double>() <= layer["imbalance_even"].get<double>() + 1e-9);
  }
  CHECK(plan.contains("imbalance_own_shares"));
  CHECK_FALSE(JsonOf(Plan({"--policy=deepseek"})).contains("imbalance_own_shares"));
}

TEST_CASE("solved shares are written on demand, and never where a form has no place for them", "[plan]") {
  const std::string out = Folder() + "shares.json";
  const json plan = JsonOf(Plan({"--policy=deepseek", "--shares", "--window=:1", "--out", out}));
  const MapFile map = MapIn(out);
  CHECK(map.layers[0].shares.size() == 16);
  const json shown = JsonOf({"show", out, "--loads", Loads()});
  CHECK(shown["cell"] == "rank");
  const Answer note = Type(Plan({"--policy=deepseek", "--shares", "--out", out, "--format=trtllm", "--first-layer=3"}));
  CHECK(note.status == 0);
  CHECK_THAT(note.err, Catch::Contains("note: trtllm does not keep shares"));
  CHECK(MapIn(out, 8).first_layer == 3);
}

TEST_CASE("capacities and the cost of experts change what is balanced", "[plan]") {
  const json plain = JsonOf(Plan({"--policy=greedy", "--window=:1"}));
  const json slow = JsonOf(Plan({"--policy=greedy", "--window=:1", "--capacities=1,1,1,1,1,1,1,0.5"}));
  CHECK(slow["imbalance_before"] != plain["imbalance_before"]);
  // The busiest of two experts each costs 580 + 200; with every expert on one rank alone the mean is (1450 + 800) / 8.
  const json dear = JsonOf(Plan({"--policy=greedy", "--window=:1", "--cost=100,1"}));
  CHECK(dear["imbalance_before"].get<double>() == Approx(780 / 281.25));
  for (const json& plan : {slow, dear}) CHECK(plan["imbalance_shares"] <= plan["imbalance_even"]);
}

TEST_CASE("policies names every policy with its options and bounds", "[policies]") {
  const json listed = JsonOf({"policies"});
  REQUIRE(listed["policies"].size() == algos::AllPolicies().size());
  bool found = false;
  for (const json& policy : listed["policies"]) found = found || policy["name"] == listed["default"];
  CHECK(found);
  const Answer table = Type({"policies"});
  CHECK(table.status == 0);
  for (const algos::NamedPolicy& policy : algos::AllPolicies()) {
    CHECK_THAT(table.out, Catch::Contains("\n" + std::string(policy.name) + " "));
  }
}

TEST_CASE("a map goes through all forms and comes back", "[convert]") {
  const std::string first = Folder() + "first.json";
  REQUIRE(Type(Plan({"--policy=deepseek", "--out", first})).status == 0);
  std::string at = first;
  for (const std::string form : {"trtllm", "sglang", "expert_map", "evenkeel"}) {
    const std::string next = Folder() + "next." + form;
    const json done = JsonOf({"convert", at, "--to", form, "--out", next, "--ranks=8"});
    CHECK(done["to"] == form);
    CHECK(done["num_redundant"] == 8);
    at = next;
  }
  CHECK(MapIn(at) == MapIn(first));
  const Answer printed = Type({"convert", first, "--to=trtllm"});
  CHECK_THAT(printed.out, Catch::StartsWith("num_slots: 16\ninitial_global_assignments:\n  0: ["));
}

TEST_CASE("loads go to SGLang's form and to NumPy's", "[convert]") {
  const std::string npy = Folder() + "back.npy", count = Folder() + "count.json";
  REQUIRE(Type({"convert", Loads(), "--to=npy", "--out", npy}).status == 0);
  REQUIRE(Type({"convert", npy, "--to=logical_count", "--out", count}).status == 0);
  CHECK(*ReadLoads(count) == *ReadLoads(Loads()));
}

TEST_CASE("loads are shown by expert, or by rank under the initial placement", "[show]") {
  const Answer experts = Type({"show", Loads(), "--window=:1"});
  CHECK(experts.status == 0);
  CHECK(experts.out == Loads() +
                           ": loads of 2 layers, 8 experts, 1 window\n\n"
                           "layer 0 |@@@@====::......| max/mean 3.310\n"
                           "layer 1 |......::====@@@@| max/mean 3.310\n\n"
                           "a cell is one expert; 0 | .:-=+*#%@| 3.31 times the layer's mean\n");
  const json ranks = JsonOf({"show", Loads(), "--window=:1", "--ranks=4", "--layers=1"});
  CHECK(ranks["layers"].size() == 1);
  CHECK(ranks["layers"][0]["values"] == json({20, 30, 240, 1160}));
  CHECK(ranks["layers"][0]["max_over_mean"].get<double>() == Approx(3.2));
}

TEST_CASE("what is wider than a line shares cells, and a terminal gets colours", "[show]") {
  std::string counts = "[";
  for (int e = 0; e < 100; ++e) counts += (e == 0 ? "" : ",") + std::to_string(e);
  const std::string wide = Write("wide.json", counts + "]");
  const Answer narrow = Type({"show", wide, "--width=70"});
  CHECK_THAT(narrow.out, Catch::Contains("a cell is the highest of 3 experts"));
  std::istringstream lines(narrow.out);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("layer")) CHECK(line.size() <= 70);
  }
  const Answer colours = Type({"show", wide, "--width=200"}, /*terminal=*/true);
  CHECK_THAT(colours.out, Catch::Contains("\x1b[48;5;196m") && Catch::Contains("\x1b[0m|"));
}

TEST_CASE("a map is shown by replicas, or by rank under loads", "[show]") {
  const std::string map = Write("map.json", R"({"physical_to_logical_map": [[0, 1, 0, 2, 0, 1]]})");
  const json replicas = JsonOf({"show", map, "--ranks=3"});
  CHECK(replicas["unit"] == "replicas");
  CHECK(replicas["layers"][0]["values"] == json({3, 2, 1}));
  const std::string loads = Write("three.json", "[30, 20, 10]");
  const json ranks = JsonOf({"show", map, "--ranks=3", "--loads", loads});
  CHECK(ranks["layers"][0]["values"] == json({20, 20, 20}));
  CHECK_THAT(Type({"show", map, "--ranks=3"}).out, Catch::Contains("3 experts in 6 slots on 3 ranks (3 redundant)"));
}

}  // namespace
}  // namespace evenkeel::cli
