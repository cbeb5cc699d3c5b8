// SPDX-License-Identifier: Apache-2.0
#include "cli/files/loads.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <string>

namespace evenkeel::cli {
namespace {

using algos::Load;

std::string MessageOf(const std::string& bytes, const std::string& range = "") {
  const auto array = ParseCounts(bytes);
  if (!array.ok()) return std::string(array.status().message());
  return std::string(LoadsOf(*array, range).status().message());
}

std::vector<Load> LoadsIn(const std::string& bytes, const std::string& range = "") {
  const auto array = ParseCounts(bytes);
  REQUIRE(array.status() == absl::OkStatus());
  const auto loads = LoadsOf(*array, range);
  REQUIRE(loads.status() == absl::OkStatus());
  return *loads;
}

TEST_CASE("one dimension is a layer, two are a window, three are windows in order", "[loads]") {
  CHECK(LoadsIn("[1, 2, 3]") == std::vector<Load>{{.num_layers = 1, .num_experts = 3, .tokens = {1, 2, 3}}});
  CHECK(LoadsIn("[[1, 2, 3], [4, 5, 6]]") ==
        std::vector<Load>{{.num_layers = 2, .num_experts = 3, .tokens = {1, 2, 3, 4, 5, 6}}});
  CHECK(LoadsIn(" [[[1, 2]], [[3, 4]]]") == std::vector<Load>{{.num_layers = 1, .num_experts = 2, .tokens = {1, 2}},
                                                              {.num_layers = 1, .num_experts = 2, .tokens = {3, 4}}});
}

TEST_CASE("fractions are rounded to whole tokens", "[loads]") {
  CHECK(LoadsIn("[1.4, 2.6, 0.0, 1e3]")[0].tokens == std::vector<uint64_t>{1, 3, 0, 1000});
}

TEST_CASE("what SGLang and FastDeploy record is read", "[loads]") {
  const std::vector<Load> want = {{.num_layers = 2, .num_experts = 2, .tokens = {1, 2, 3, 4}}};
  CHECK(LoadsIn(R"({"logical_count": [[[1, 2], [3, 4]]], "rank": 0})") == want);
  CHECK(LoadsIn(R"({"logical_count": [[1, 2], [3, 4]]})") == want);
  CHECK(LoadsIn(R"({"update_timestamp": 1.5, "tokens_per_expert_stats_list": [[1, 2], [3, 4]]})") == want);
}

TEST_CASE("windows are chosen by a range, from either end", "[loads]") {
  const std::string four = "[[[1, 0]], [[2, 0]], [[3, 0]], [[4, 0]]]";
  const auto firsts = [&](const std::string& range) {
    std::vector<uint64_t> tokens;
    for (const Load& load : LoadsIn(four, range)) tokens.push_back(load.tokens[0]);
    return tokens;
  };
  CHECK(firsts("1:3") == std::vector<uint64_t>{2, 3});
  CHECK(firsts(":2") == std::vector<uint64_t>{1, 2});
  CHECK(firsts("3:") == std::vector<uint64_t>{4});
  CHECK(firsts("-2:") == std::vector<uint64_t>{3, 4});
  CHECK(firsts(":-3") == std::vector<uint64_t>{1});
  CHECK(firsts("") == std::vector<uint64_t>{1, 2, 3, 4});
  CHECK(MessageOf(four, "2:5") == "loads: windows '2:5': the file has 4 windows, 0 to 3");
  CHECK(MessageOf(four, "-5:") == "loads: windows '-5:': the file has 4 windows, 0 to 3");
  CHECK(MessageOf(four, "2:2") == "loads: windows '2:2': there are none in that range");
  CHECK(MessageOf(four, "x:2") == "loads: windows: 'x' is no number");
  CHECK(MessageOf(four, "2") == "loads: windows '2': wanted is A:B, for example 0:20");
}

TEST_CASE("an empty window is refused by its number, unless it is left out", "[loads]") {
  const std::string gap = "[[[1, 2]], [[0, 0]], [[3, 0]]]";
  CHECK(MessageOf(gap) == "loads: window 1 is empty: no expert has a token in it");
  CHECK(LoadsIn(gap, "2:").size() == 1);
  CHECK(MessageOf("[[0, 0], [0, 1]]").empty());  // a layer may be
}

TEST_CASE("what is no loads is refused with the reason and the place", "[loads]") {
  const struct {
    const char* bytes;
    const char* message;
  } cases[] = {
      {"", "loads: neither a NumPy file nor JSON; .pt and .npz files have to be converted first"},
      {"PK\x03\x04", "loads: neither a NumPy file nor JSON; .pt and .npz files have to be converted first"},
      {"[]", "loads has an empty list"},
      {"[[], []]", "loads has an empty list"},
      {"[[1, 2], [3]]", "loads[1] has 1 values, its first neighbour 2"},
      {"[[1, 2], 3]", "loads[1] is 3, its neighbours are lists"},
      {"[[1, 2], [3, [4]]]", "loads[1][1] is a list, no count"},
      {"[[1, 2], [3, -4]]", "loads[1][1] is negative: -4"},
      {"[1, -0.9]", "loads[1] is negative: -0.9"},
      {"[1, null]", "loads[1] is null, no count"},
      {"[1, \"2\"]", "loads[1] is \"2\", no count"},
      {"[1, 1e30]", "loads[1] is beyond 64 bits: 1e+30"},
      {"[[[[1]]]]",
       "loads: an array of 4 dimensions; wanted is [experts], [layers, experts] or [windows, layers, experts]"},
      {"[[[[[[[[[1]]]]]]]]]", "loads is nested too deeply"},
      {"{\"counts\": [1]}", "loads: an object with neither logical_count nor tokens_per_expert_stats_list"},
      {"{\"physical_to_logical_map\": [[0]]}", "loads: physical_to_logical_map is a map, not loads"},
      {"{\"logical_count\": 5}", "logical_count is 5, not a list of counts"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.bytes);
    CHECK(MessageOf(c.bytes) == c.message);
  }
  CHECK_THAT(MessageOf("[1, NaN]"), Catch::Contains("line 1, column 5") && Catch::Contains("NaN and Infinity"));
  CHECK_THAT(MessageOf("[1, 2"), Catch::Contains("not JSON: parse error at line 1, column 6"));
  CHECK_THAT(MessageOf("[1, 1e999]"), Catch::Contains("not JSON"));
}

TEST_CASE("sizes beyond the limits are refused", "[loads]") {
  CHECK_THAT(std::string(LoadsOf({.shape = {5000, 1}, .values = std::vector<uint64_t>(5000, 1)}).status().message()),
             Catch::Contains("at most 4096 layers"));
  CHECK_THAT(std::string(LoadsOf({.shape = {70000}, .values = std::vector<uint64_t>(70000, 1)}).status().message()),
             Catch::Contains("65536 experts"));
  CHECK_THAT(std::string(LoadsOf({.shape = {0, 2, 2}, .values = {}}).status().message()),
             Catch::Contains("[0, 2, 2] holds nothing"));
}

TEST_CASE("files are read, errors name them, and both written forms come back", "[loads]") {
  const char* folder = std::getenv("TEST_TMPDIR");
  const std::string path = std::string(folder != nullptr ? folder : "/tmp") + "/loads_test.json";
  const std::vector<Load> windows = LoadsIn("[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]");
  for (const std::string& bytes : {RenderLogicalCount(windows), RenderNpy(ArrayOf(windows))}) {
    std::ofstream(path, std::ios::binary) << bytes;
    const auto read = ReadLoads(path);
    REQUIRE(read.status() == absl::OkStatus());
    CHECK(*read == windows);
  }
  CHECK(ReadLoads(path, "1:5").status().message() == path + ": loads: windows '1:5': the file has 2 windows, 0 to 1");
  CHECK(ReadLoads(folder != nullptr ? folder : "/tmp").status().code() == absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace evenkeel::cli
