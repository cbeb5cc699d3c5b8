// SPDX-License-Identifier: Apache-2.0
//
// plan, convert, show and policies as they are typed, on files alone.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
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
#include "cli/keelctl.h"

namespace evenkeel::cli {
namespace {

using nlohmann::json;

std::string Folder() {
  const char* folder = std::getenv("TEST_TMPDIR");
  return std::string(folder != nullptr ? folder : "/tmp") + "/";
}

std::string Write(const std::string& name, const std::string& bytes) {
  REQUIRE(WriteFile(Folder() + name, bytes).ok());
  return Folder() + name;
}

struct Answer {
  int status = 0;
  std::string out, err;
};

Answer Type(const std::vector<std::string>& words, bool terminal = false) {
  std::ostringstream out, err;
  // No controller is there, and none is asked.
  const int status = RunKeelctl(words, {.default_controller = "127.0.0.1:1", .terminal = terminal}, out, err);
  return {status, out.str(), err.str()};
}

json JsonOf(std::vector<std::string> words) {
  words.push_back("--json");
  const Answer answer = Type(words);
  CAPTURE(answer.err);
  REQUIRE(answer.status == 0);
  return json::parse(answer.out);
}

MapFile MapIn(const std::string& path, int num_ranks = 0) {
  auto map = ReadMap(path, std::nullopt, {.num_ranks = num_ranks});
  REQUIRE(map.status() == absl::OkStatus());
  return *map;
}

// Two layers of eight experts in three windows; the second layer is the first with its experts reversed.
std::string Loads() {
  return Write("loads.json",
               "[[[600,560,120,120,20,10,10,10],[10,10,10,20,120,120,560,600]],"
               "[[600,560,120,120,20,10,10,10],[10,10,10,20,120,120,560,600]],"
               "[[10,10,10,20,120,120,560,600],[600,560,120,120,20,10,10,10]]]");
}

std::vector<std::string> Plan(std::vector<std::string> more, const std::string& loads = Loads()) {
  std::vector<std::string> words = {"plan", "--loads", loads, "--ranks=8", "--slots-per-rank=2"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

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

// A .npy of one value in a dtype.
template <typename T>
std::string OneValue(const char* type, T value) {
  std::string header = std::string("{'descr': '") + type + "', 'fortran_order': False, 'shape': (1, 1), }\n";
  std::string bytes("\x93NUMPY\x01", 7);
  bytes += std::string({'\0', static_cast<char>(header.size()), '\0'}) + header;
  bytes.append(sizeof value, '\0');
  std::memcpy(bytes.data() + bytes.size() - sizeof value, &value, sizeof value);
  return bytes;
}

TEST_CASE("bad input is refused with what is wrong with it", "[bad]") {
  const std::string loads = Loads();
  const std::string map =
      Write("good.json", R"({"evenkeel_map": 1, "num_experts": 8, "num_ranks": 8, "slots_per_rank": 1,
      "layers": [{"slots": [0,1,2,3,4,5,6,7]}, {"slots": [7,6,5,4,3,2,1,0]}]})");
  const std::string one_layer = Write("one.json", R"({"evenkeel_map": 1, "num_experts": 8, "num_ranks": 8,
      "slots_per_rank": 1, "layers": [{"slots": [0,1,2,3,4,5,6,7]}]})");
  const std::string sglang = Write("sglang.json", R"({"physical_to_logical_map": [[0,1,2,3,4,5,6,7]]})");
  const std::string broken = Write("broken.json", "{\"evenkeel_map\": 1,");
  const std::string words = Write("words.txt", "hello");
  const struct {
    std::vector<std::string> typed;
    int status;
    const char* message;
  } cases[] = {
      {{"plan"}, 2, "--loads is needed"},
      {{"plan", "--loads", loads}, 2, "--ranks is needed"},
      {{"plan", "--loads", loads, "--ranks=8"}, 2, "--slots-per-rank is needed"},
      {{"plan", "--loads", Folder() + "none.npy", "--ranks=8", "--slots-per-rank=2"}, 1, "none.npy: no such file"},
      {{"plan", "--loads", Folder(), "--ranks=8", "--slots-per-rank=2"}, 1, "it is a folder"},
      {Plan({}, Write("nan.npy", OneValue("<f4", NAN))), 2, "nan.npy: npy: value [0, 0] is NaN"},
      {Plan({}, Write("negative.npy", OneValue("<i8", int64_t{-5}))), 2, "value [0, 0] is negative"},
      {Plan({}, Write("infinite.npy", OneValue("<f8", double{INFINITY}))), 2, "value [0, 0] is infinite"},
      {Plan({}, Write("zero.npy", OneValue("<u4", uint32_t{0}))), 2, "window 0 is empty"},
      {Plan({}, Write("text.npy", OneValue("<U1", 'x'))), 2, "values of type '<U1' cannot be read"},
      {Plan({}, Write("nan.json", "[[1, NaN]]")), 2, "NaN and Infinity are no numbers of JSON"},
      {Plan({}, Write("ragged.json", "[[1, 2], [3]]")), 2, "loads[1] has 1 values, its first neighbour 2"},
      {Plan({}, Write("four.json", "[[[[1]]]]")), 2, "an array of 4 dimensions"},
      {Plan({}, Write("gap.json", "[[[1, 2]], [[0, 0]]]")), 2, "gap.json: loads: window 1 is empty"},
      {Plan({}, words), 2, "neither a NumPy file nor JSON"},
      {Plan({}, map), 2, "neither logical_count nor tokens_per_expert_stats_list"},
      {Plan({"--window=1:9"}), 2, "the file has 3 windows, 0 to 2"},
      {Plan({"--window=2:1"}), 2, "there are none in that range"},
      {Plan({"--window=one"}), 2, "wanted is A:B"},
      {{"plan", "--loads", loads, "--ranks=0", "--slots-per-rank=2"}, 2, "--ranks=0: must be a whole number from 1"},
      {{"plan", "--loads", loads, "--ranks=2", "--slots-per-rank=3"}, 2, "room for 6 experts; there are 8"},
      {{"plan", "--loads", loads, "--ranks=3", "--slots-per-rank=3", "--dead-ranks=1"},
       2,
       "the living ranks have 6 slots for 8"},
      {Plan({"--dead-ranks=8"}), 2, "--dead-ranks=8"},
      {Plan({"--dead-ranks=0-7"}), 2, "rank"},
      {Plan({"--nodes=3"}), 2, "--nodes=3: 8 ranks cannot be divided among them"},
      {Plan({"--expert-groups=3"}), 2, "--expert-groups=3: 8 experts cannot be divided among them"},
      {Plan({"--pin=0:1"}), 2, "'0:1' is no LAYER:EXPERT:RANK"},
      {Plan({"--pin=2:0:0"}), 2, "there is no layer 2; there are 2"},
      {Plan({"--pin=0:8:0"}), 2, "there is no expert 8; there are 8"},
      {Plan({"--pin=0:0:8"}), 2, "there is no rank 8; there are 8"},
      {Plan({"--capacities=1,2"}), 2, "2 numbers; wanted are 8"},
      {Plan({"--capacities=1,1,1,1,1,1,1,0"}), 2, "each must be above 0"},
      {Plan({"--capacities=1,1,1,1,1,1,1,x"}), 2, "'x' is no number"},
      {Plan({"--cost=0,0"}), 2, "neither may be negative, nor both 0"},
      {Plan({"--cost=nan,1"}), 2, "'nan' is no number"},
      {Plan({"--policy=best"}), 2, "policy 'best': there are "},
      {Plan({"--policy=static"}), 2, "--policy=static needs --map"},
      {{"plan", "--loads", loads, "--policy=greedy", "--map", map}, 2, "--map goes with --policy=static alone"},
      {Plan({"--policy-config=depth"}), 2, "'depth' is no NAME=NUMBER"},
      {Plan({"--policy=deepseek", "--policy-config=depth=3"}), 2, "no option 'depth'"},
      {Plan({"--policy-config=a=1,a=2"}), 2, "a is given twice"},
      {Plan({"--max-moves=-1"}), 2, "--max-moves=-1"},
      {Plan({"--layers=2"}), 2, "--layers=2"},
      {Plan({"--expert-bytes=0"}), 2, "--expert-bytes=0"},
      {Plan({"--format=pt", "--out=x"}), 2, "format 'pt': there are evenkeel|expert_map|sglang|trtllm"},
      {Plan({"--out", Folder() + "no/such/folder/plan.json"}), 3, "failed; is there such a folder"},
      {Plan({"--current", broken}), 2, "broken.json: not JSON"},
      {Plan({"--current", map}), 2, "--slots-per-rank=2: the map has 1"},
      {{"plan", "--loads", loads, "--current", one_layer}, 2, "one.json: a map of 1 layers; the loads have 2"},
      {{"plan", "--loads", loads, "--current", map, "--ranks=4"}, 2, "is for 8 ranks, not for 4"},
      {{"plan", "--loads", loads, "--current", sglang}, 2, "does not say how many ranks there are"},
      {Plan({"--current", words}), 2, "words.txt: yaml: line 1"},
      {{"plan", loads}, 2, ""},
      {{"convert", map}, 2, "--to is needed"},
      {{"convert"}, 2, "FILE"},
      {{"convert", map, "--to=pt"}, 2, "format 'pt'"},
      {{"convert", map, "--to=sglang", "--from=trtllm"}, 2, "yaml: line 1"},
      {{"convert", map, "--to=sglang", "--json"}, 2, "--json needs --out"},
      {{"convert", sglang, "--to=trtllm"}, 2, "does it lack --ranks?"},
      {{"convert", sglang, "--to=trtllm", "--ranks=3"}, 2, "8 slots cannot be divided among 3 ranks"},
      {{"convert", loads, "--to=sglang"}, 2, "no form of a map"},
      {{"convert", loads, "--to=npy", "--ranks=3"}, 2, "--ranks is of maps"},
      {{"convert", map, "--to=npy"}, 2, "neither logical_count nor"},
      {{"show"}, 2, "FILE"},
      {{"show", words}, 2, "neither a NumPy file nor JSON"},
      {{"show", loads, "--layers=5"}, 2, "--layers=5"},
      {{"show", loads, "--loads", loads}, 2, "--loads goes with a map"},
      {{"show", map, "--loads", Write("other.json", "[1, 2]")}, 2, "loads of 1 layers x 2 experts; the map has 2 x 8"},
      {{"show", map, "--window=0:1"}, 2, "--window goes with loads"},
      {{"show", loads, "--ranks=2", "--slots-per-rank=3"}, 2, "--slots-per-rank=3"},
      {{"policies", "--policy=x"}, 2, "--policy is not an option"},
  };
  CHECK(std::size(cases) >= 60);
  for (const auto& bad : cases) {
    const std::string typed = [&] {
      std::string text;
      for (const std::string& word : bad.typed) text += word + " ";
      return text;
    }();
    CAPTURE(typed);
    const Answer answer = Type(bad.typed);
    CHECK(answer.status == bad.status);
    CHECK(answer.out.empty());
    CHECK_THAT(answer.err, Catch::StartsWith("keelctl " + bad.typed[0] + ": ") && Catch::Contains(bad.message));
  }
}

TEST_CASE("a plan that cannot be written leaves the old file as it was", "[bad]") {
  const std::string out = Write("old.json", "old");
  CHECK(Type(Plan({"--dead-ranks=0", "--policy=greedy", "--out", out, "--format=expert_map"})).status == 2);
  CHECK(*ReadFile(out, 100) == "old");
}

}  // namespace
}  // namespace evenkeel::cli
