// SPDX-License-Identifier: Apache-2.0
//
// plan, convert, show and policies given what they cannot take.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "cli/files/file.h"
#include "tests/cli/typed_planning.h"

namespace evenkeel::cli {
namespace {

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
    std::string message;
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
      {Plan({"--out", Folder() + "no/such/folder/plan.json"}), 2, "there is no such folder"},
      {Plan({"--out", Folder()}), 2, "--out: write " + Folder() + ": it is a folder"},
      {Plan({"--out", loads}), 2, "would replace what is read: --loads is that file"},
      {Plan({"--pin=0:0:0", "--pin=0:1:0"}), 2, "several"},
      {Plan({"--survive-ranks=8"}), 2, "--survive-ranks=8: there are 8; one at least must be left"},
      {Plan({"--survive-ranks=7", "--dead-ranks=0"}), 2, "--survive-ranks=7: there are 7"},
      {Plan({"--survive-hosts=1"}), 2, "--survive-hosts=1: there are 1"},
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
