// SPDX-License-Identifier: Apache-2.0
#include "cli/files/map_formats.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "algos/base/ids.h"
#include "algos/base/rng.h"
#include "algos/layer_map.h"
#include "algos/placement.h"

namespace evenkeel::cli {
namespace {

using algos::LayerPlan;
using algos::Placement;
using algos::Shape;

constexpr MapFormat kFormats[] = {MapFormat::kEvenkeel, MapFormat::kExpertMap, MapFormat::kSglang, MapFormat::kTrtllm};

Placement PlacementOf(const std::vector<int>& slots) {
  Placement placement;
  for (int expert : slots) placement.expert_of_slot.push_back(ExpertId(expert));
  return placement;
}

// Every expert somewhere, the rest of the slots at random.
MapFile RandomMap(Rng& rng) {
  MapFile map;
  map.shape = {.num_experts = static_cast<int>(rng.Between(1, 40)), .num_ranks = static_cast<int>(rng.Between(1, 9))};
  const int least = (map.shape.num_experts + map.shape.num_ranks - 1) / map.shape.num_ranks;
  map.shape.slots_per_rank = least + static_cast<int>(rng.Below(4));
  map.first_layer = static_cast<int>(rng.Below(5));
  const auto num_layers = static_cast<size_t>(rng.Between(1, 4));
  while (map.layers.size() < num_layers) {
    std::vector<int> slots;
    for (int slot = 0; slot < map.shape.num_slots(); ++slot) {
      slots.push_back(slot < map.shape.num_experts
                          ? slot
                          : static_cast<int>(rng.Below(static_cast<uint64_t>(map.shape.num_experts))));
    }
    rng.Shuffle(slots);
    map.layers.push_back({.placement = PlacementOf(slots)});
  }
  return map;
}

algos::Shares RandomShares(const Placement& placement, int num_experts, Rng& rng) {
  const algos::Replicas replicas = algos::Invert(placement, num_experts);
  algos::Shares shares(replicas.slots.size(), 0.0);
  for (int e = 0; e < num_experts; ++e) {
    const auto first = static_cast<size_t>(replicas.offsets[static_cast<size_t>(e)]);
    const auto count = static_cast<size_t>(replicas.num_replicas(ExpertId(e)));
    double sum = 0;
    for (size_t i = 0; i < count; ++i) sum += shares[first + i] = rng.Uniform() + 0.01;
    for (size_t i = 0; i < count; ++i) shares[first + i] /= sum;
  }
  return shares;
}

MapHints HintsOf(const MapFile& map) {
  return {.num_ranks = map.shape.num_ranks, .num_experts = map.shape.num_experts, .first_layer = map.first_layer};
}

std::string MessageOf(const std::string& bytes, std::optional<MapFormat> format = {}, MapHints hints = {}) {
  return std::string(ParseMap(bytes, format, hints).status().message());
}

TEST_CASE("maps come back from every form as they were, and the form is found by itself", "[maps]") {
  const uint64_t seed = GENERATE(range<uint64_t>(1, 41));
  CAPTURE(seed);
  Rng rng(seed);
  const MapFile map = RandomMap(rng);
  for (MapFormat format : kFormats) {
    CAPTURE(NameOf(format));
    const auto bytes = RenderMap(map, format);
    REQUIRE(bytes.status() == absl::OkStatus());
    CHECK(DetectMapFormat(*bytes) == format);
    const auto read = ParseMap(*bytes, std::nullopt, HintsOf(map));
    REQUIRE(read.status() == absl::OkStatus());
    CHECK(*read == map);
    CHECK(read->shape.num_redundant() == map.shape.num_slots() - map.shape.num_experts);
  }
}

TEST_CASE("every form converts into every other and back", "[maps]") {
  const uint64_t seed = GENERATE(range<uint64_t>(100, 110));
  CAPTURE(seed);
  Rng rng(seed);
  const MapFile map = RandomMap(rng);
  for (MapFormat from : kFormats) {
    for (MapFormat to : kFormats) {
      CAPTURE(NameOf(from), NameOf(to));
      const auto first = ParseMap(*RenderMap(map, from), from, HintsOf(map));
      REQUIRE(first.status() == absl::OkStatus());
      const auto second = ParseMap(*RenderMap(*first, to), to, HintsOf(map));
      REQUIRE(second.status() == absl::OkStatus());
      CHECK(*second == map);
    }
  }
}

TEST_CASE("our own form keeps shares to the bit, blank slots and lost experts", "[maps]") {
  const uint64_t seed = GENERATE(range<uint64_t>(1, 21));
  CAPTURE(seed);
  Rng rng(seed);
  MapFile map = RandomMap(rng);
  for (LayerPlan& plan : map.layers) {
    for (ExpertId& expert : plan.placement.expert_of_slot) {
      if (rng.Chance(0.2)) expert = kNoExpert;
    }
    plan.shares = RandomShares(plan.placement, map.shape.num_experts, rng);
  }
  const std::string bytes = *RenderMap(map, MapFormat::kEvenkeel);
  const auto read = ParseMap(bytes, std::nullopt, {});
  REQUIRE(read.status() == absl::OkStatus());
  CHECK(*read == map);
}

TEST_CASE("other forms refuse what they cannot say", "[maps]") {
  MapFile map{.shape = {.num_experts = 2, .num_ranks = 2, .slots_per_rank = 2}};
  map.layers.push_back({.placement = PlacementOf({0, 1, 1, 0})});
  map.layers.push_back({.placement = PlacementOf({0, 1, 1, -1})});
  for (MapFormat format : {MapFormat::kExpertMap, MapFormat::kSglang, MapFormat::kTrtllm}) {
    CHECK(std::string(RenderMap(map, format).status().message()) ==
          "map: layer 1 slot 3 is blank, which " + std::string(NameOf(format)) + " cannot say; evenkeel can");
  }
  map.layers[1].placement = PlacementOf({1, 1, 1, 1});
  CHECK_THAT(std::string(RenderMap(map, MapFormat::kSglang).status().message()),
             Catch::StartsWith("map: layer 1: ") && Catch::Contains("sglang cannot say"));
}

TEST_CASE("vllm-ascend's example is read, and its redundancy derived", "[maps]") {
  const auto map = ParseMap(R"({"moe_layer_count": 1, "layer_list": [{"layer_id": 0, "device_count": 2, "device_list": [
      {"device_id": 0, "device_expert": [7, 2, 0, 3, 5]}, {"device_id": 1, "device_expert": [6, 1, 4, 7, 2]}]}]})",
                            std::nullopt, {});
  REQUIRE(map.status() == absl::OkStatus());
  CHECK(map->shape == Shape{.num_experts = 8, .num_ranks = 2, .slots_per_rank = 5});
  CHECK(map->shape.num_redundant() == 2);
  CHECK(map->layers[0].placement == PlacementOf({7, 2, 0, 3, 5, 6, 1, 4, 7, 2}));
}

TEST_CASE("SGLang's rows of dense layers are skipped when read and trivial when written", "[maps]") {
  const auto map = ParseMap(R"({"physical_to_logical_map": [[0, 1, 2, 0], [2, 1, 0, 1]]})", std::nullopt,
                            {.num_ranks = 2, .first_layer = 1});
  REQUIRE(map.status() == absl::OkStatus());
  REQUIRE(map->layers.size() == 1);
  CHECK(map->layers[0].placement == PlacementOf({2, 1, 0, 1}));
  CHECK(*RenderMap(*map, MapFormat::kSglang) == "{\"physical_to_logical_map\": [\n [0,1,2,0],\n [2,1,0,1]\n]}\n");
}

TEST_CASE("TensorRT-LLM's YAML is read in block and in flow style, whatever the order of its keys", "[maps]") {
  const char* files[] = {
      "num_slots: 4\ninitial_global_assignments:\n  3: [0, 1, 2, 0]\n  4: [2, 1,\n     0, 1]\nlayer_updates_per_iter: "
      "0\n",
      "# made by a tool\nlayer_updates_per_iter: 2\ninitial_global_assignments:\n  4:\n  - 2\n  - 1\n  - 0\n  - 1\n"
      "  3:\n  - 0\n  - 1\n  - 2\n  - 0\nnum_slots: 4\n",
      "{num_slots: 4, initial_global_assignments: {\"3\": [0, 1, 2, 0], 4: [2, 1, 0, 1]}}",
  };
  for (const char* file : files) {
    CAPTURE(file);
    const auto map = ParseMap(file, MapFormat::kTrtllm, {.num_ranks = 2});
    REQUIRE(map.status() == absl::OkStatus());
    CHECK(map->first_layer == 3);
    CHECK(map->shape == Shape{.num_experts = 3, .num_ranks = 2, .slots_per_rank = 2});
    REQUIRE(map->layers.size() == 2);
    CHECK(map->layers[1].placement == PlacementOf({2, 1, 0, 1}));
  }
  const auto map = ParseMap(files[1], std::nullopt, {.num_ranks = 2});
  REQUIRE(map.ok());
  CHECK(*RenderMap(*map, MapFormat::kTrtllm) ==
        "num_slots: 4\ninitial_global_assignments:\n  3: [0, 1, 2, 0]\n  4: [2, 1, 0, 1]\nlayer_updates_per_iter: 0\n");
}

struct BadMap {
  const char* bytes;
  const char* message;  // a part of it
};

TEST_CASE("a wrong map of ours is refused by field, layer and slot", "[maps]") {
  const std::string head = R"({"evenkeel_map": 1, "num_experts": 2, "num_ranks": 2, "slots_per_rank": 2, )";
  const BadMap layers[] = {
      {R"("layers": []})", "0 layers; 1 to 4096"},
      {R"("layers": {}})", "layers is an object, not a list"},
      {R"("layers": [3]})", "layers[0] is 3, not an object"},
      {R"("layers": [{}]})", "layers[0] has no slots"},
      {R"("layers": [{"slots": [0, 1, 0, 1]}, {"slots": [0, 1, 0]}]})",
       "layers[1].slots has 3 slots; 2 ranks x 2 are 4"},
      {R"("layers": [{"slots": [0, 1, 2, 1]}]})", "layers[0].slots[2] is 2; wanted is an integer from -1 to 1"},
      {R"("layers": [{"slots": [0, 1, -2, 1]}]})", "layers[0].slots[2] is -2"},
      {R"("layers": [{"slots": [0, 1, 0.5, 1]}]})", "layers[0].slots[2] is 0.5"},
      {R"("layers": [{"slots": [0, 1, 18446744073709551615, 1]}]})", "layers[0].slots[2] is 18446744073709551615"},
      {R"("layers": [{"slots": [0, 1, 0, 1], "weights": []}]})", "layers[0] has an unknown field 'weights'"},
      {R"("layers": [{"slots": [0, 1, 0, 1], "shares": [1, 1]}]})", "layers[0].shares is not a list of 4 numbers"},
      {R"("layers": [{"slots": [0, 1, 0, 1], "shares": [0.5, 1, 0.4, 0]}]})",
       "layers[0].shares: those of expert 0 add up to 0.9, not to 1"},
      {R"("layers": [{"slots": [0, 1, 0, 1], "shares": [-0.5, 1, 1.5, 0]}]})", "layers[0].shares[0] is -0.5"},
      {R"("layers": [{"slots": [0, 1, 0, 1], "shares": [1, 1, null, 0]}]})", "layers[0].shares[2] is null"},
      {R"("layers": [{"slots": [0, 1, 0, -1], "shares": [1, 1, 0, 0.5]}]})",
       "layers[0].shares[3] is 0.5; the slot is blank"},
      {R"("layers": [{"slots": [0, 1, 0, 1]}], "first_layer": -1})", "first_layer is -1; it goes from 0 to 4096"},
      {R"("layers": [{"slots": [0, 1, 0, 1]}], "layer": 1})", "has an unknown field 'layer'"},
      {R"("layers": [{"slots": [0, 1, 0, 1)", "not JSON: parse error at line 1"},
  };
  for (const BadMap& bad : layers) {
    CAPTURE(bad.bytes);
    CHECK_THAT(MessageOf(head + bad.bytes), Catch::Contains(bad.message));
  }
  const BadMap heads[] = {
      {R"({"evenkeel_map": 2, "layers": []})", "evenkeel_map is 2; this program knows version 1"},
      {R"({"evenkeel_map": "1"})", "evenkeel_map is \"1\", no integer"},
      {R"({"evenkeel_map": 1})", "has no num_experts"},
      {R"({"evenkeel_map": 1, "num_experts": 0})", "num_experts is 0; it goes from 1 to 65536"},
      {R"({"evenkeel_map": 1, "num_experts": 1e9})", "num_experts is 1000000000.0, no integer"},
      {R"({"evenkeel_map": 1, "num_experts": 8, "num_ranks": 65537})", "num_ranks is 65537"},
      {R"({"evenkeel_map": 1, "num_experts": 8, "num_ranks": 65536, "slots_per_rank": 17})", "slots_per_rank is 17"},
  };
  for (const BadMap& bad : heads) {
    CAPTURE(bad.bytes);
    CHECK_THAT(MessageOf(bad.bytes), Catch::Contains(bad.message));
  }
}

TEST_CASE("a wrong expert_map.json is refused by layer, device and slot", "[maps]") {
  const auto layer = [](const std::string& devices) {
    return R"({"moe_layer_count": 1, "layer_list": [{"layer_id": 0, "device_count": 2, "device_list": )" + devices +
           "}]}";
  };
  const std::string good = R"({"device_id": 0, "device_expert": [0, 1]})";
  CHECK_THAT(MessageOf(layer("[" + good + "]")), Catch::Contains("device_count is 2, device_list has 1"));
  CHECK_THAT(MessageOf(layer("[" + good + ", " + good + "]")),
             Catch::Contains("layer_list[0].device_list[1].device_id is 0; in this place it must be 1"));
  CHECK_THAT(MessageOf(layer("[" + good + R"(, {"device_id": 1, "device_expert": [0]}])")),
             Catch::Contains("device_list[1].device_expert has 1 slots, device 0 has 2"));
  CHECK_THAT(MessageOf(layer("[" + good + R"(, {"device_id": 1, "device_expert": [0, -1]}])")),
             Catch::Contains("device_list[1].device_expert[1] is -1"));
  CHECK_THAT(MessageOf(layer("[" + good + R"(, {"device_id": 1, "device_expert": [0, 3]}])")),
             Catch::Contains("map: layer 0: ") && Catch::Contains("expert 2"));
  CHECK_THAT(MessageOf(R"({"moe_layer_count": 2, "layer_list": []})"),
             Catch::Contains("moe_layer_count is 2, layer_list has 0"));
  CHECK_THAT(MessageOf(R"({"layer_list": []})"), Catch::Contains("has no moe_layer_count"));
  CHECK_THAT(MessageOf(R"({"moe_layer_count": 1, "layer_list": [{"layer_id": 1}]})"),
             Catch::Contains("layer_list[0].layer_id is 1; in this place it must be 0"));
  CHECK_THAT(
      MessageOf(layer("[" + good + R"(, {"device_id": 1, "device_expert": [0, 1]}])"), std::nullopt, {.num_ranks = 3}),
      Catch::Contains("is for 2 ranks, not for 3"));
  CHECK_THAT(MessageOf(layer("[" + good + R"(, {"device_id": 1, "device_expert": [0, 1]}])"), std::nullopt,
                       {.num_experts = 3}),
             Catch::Contains("expert 2"));
}

TEST_CASE("a wrong SGLang map is refused by row and slot", "[maps]") {
  const MapHints two{.num_ranks = 2};
  const BadMap cases[] = {
      {R"({"physical_to_logical_map": []})", "has 0 rows"},
      {R"({"physical_to_logical_map": [[0, 1], [0]]})", "layer 1 has 1 slots, layer 0 has 2"},
      {R"({"physical_to_logical_map": [[0, 1, 0]]})", "3 slots cannot be divided among 2 ranks"},
      {R"({"physical_to_logical_map": [[0, -1]]})", "physical_to_logical_map[0][1] is -1"},
      {R"({"physical_to_logical_map": [[0, 2]]})", "map: layer 0: "},
      {R"({"physical_to_logical_map": [[]]})", "layers of 0 slots"},
      {R"({"physical_to_logical_map": [5]})", "physical_to_logical_map[0] is 5, not a list"},
      {R"({"physical_to_logical_map": "x"})", "physical_to_logical_map is \"x\", not a list"},
      {R"({"logical_count": [[1, 2]]})", "logical_count is loads, not a map"},
  };
  for (const BadMap& bad : cases) {
    CAPTURE(bad.bytes);
    CHECK_THAT(MessageOf(bad.bytes, std::nullopt, two), Catch::Contains(bad.message));
  }
  CHECK_THAT(MessageOf(R"({"physical_to_logical_map": [[0, 1]]})"), Catch::Contains("does not say how many ranks"));
  CHECK_THAT(MessageOf(R"({"physical_to_logical_map": [[0, 1]]})", std::nullopt, {.num_ranks = 2, .first_layer = 1}),
             Catch::Contains("has 1 rows, the first 1 of dense layers"));
}

TEST_CASE("wrong YAML is refused by line, or by layer and slot", "[maps]") {
  const BadMap cases[] = {
      {"num_slots: 2\n", "there are no initial_global_assignments"},
      {"initial_global_assignments:\n  0: [0, 1]\n", "there is no num_slots"},
      {"num_slots: 2\ninitial_global_assignments: {}\n", "there are no initial_global_assignments"},
      {"num_slots: x\n", "line 1, column 12: num_slots must be an integer from 0"},
      {"num_slots: 2\nnum_slots: 2\n", "line 2, column 1: num_slots is given twice"},
      {"num_slots: 2\nslots: 3\n", "line 2, column 1: unknown key 'slots'"},
      {"num_slots: 2\ninitial_global_assignments:\n  0: [0, 1, 0]\n", "layer 0 has 3 slots; num_slots is 2"},
      {"num_slots: 2\ninitial_global_assignments:\n  0: [0, 1]\n  2: [0, 1]\n", "layer 2 does not follow layer 0"},
      {"num_slots: 2\ninitial_global_assignments:\n  0: [0, 1]\n  0: [1, 0]\n",
       "line 4, column 3: layer 0 is given twice"},
      {"num_slots: 2\ninitial_global_assignments:\n  0: [0, -1]\n", "line 3, column 10: a slot of layer 0 must be"},
      {"num_slots: 2\ninitial_global_assignments:\n  0: [0, [1]]\n", "line 3, column 10: a slot of layer 0 must be"},
      {"num_slots: 2\ninitial_global_assignments:\n  0: [0, 2]\n", "map: layer 0: "},
      {"num_slots: 2\ninitial_global_assignments:\n  -1: [0, 1]\n", "line 3, column 3: a layer must be"},
      {"num_slots: 2\ninitial_global_assignments: [[0, 1]]\n", "line 2, column 29: wanted is a mapping from layers"},
      {"num_slots: 2\ninitial_global_assignments:\n  0: 7\n", "line 3, column 6: wanted is a list of experts"},
      {"num_slots: 2\ninitial_global_assignments: &a\n  0: [0, 1]\n", "anchors, aliases and tags"},
      {"num_slots: 2\ninitial_global_assignments:\n  0: *a\n", "anchors, aliases and tags"},
      {"num_slots: !!int 2\n", "anchors, aliases and tags"},
      {"num_slots: 2\ninitial_global_assignments:\n  0: [0, 1]\n---\nnum_slots: 2\n", "wanted is one document alone"},
      {"num_slots: 2\ninitial_global_assignments:\n  0: [0, 1\n", "line 4, column 1: did not find expected"},
      {"- num_slots\n", "wanted is a mapping with num_slots"},
      {"num_slots: 99999999\n", "num_slots must be an integer"},
      {"\t: {", "line 1"},
  };
  for (const BadMap& bad : cases) {
    CAPTURE(bad.bytes);
    CHECK_THAT(MessageOf(bad.bytes, MapFormat::kTrtllm, {.num_ranks = 2}), Catch::Contains(bad.message));
  }
}

TEST_CASE("what is in no form of a map is refused, and so is a form that there is not", "[maps]") {
  CHECK(MessageOf("") == "map: the file is empty");
  CHECK(MessageOf("\x93NUMPY\x01") == "map: a NumPy file, which holds loads");
  CHECK(MessageOf("[1, 2]") == "map: no form of a map that is known");
  CHECK(MessageOf("{}") == "map: no form of a map that is known");
  CHECK_FALSE(DetectMapFormat("").has_value());
  CHECK_FALSE(DetectMapFormat("[[1]]").has_value());
  CHECK_FALSE(DetectMapFormat("{").has_value());
  CHECK(FindMapFormat("pt").status().message() == "format 'pt': there are evenkeel|expert_map|sglang|trtllm");
  for (MapFormat format : kFormats) CHECK(*FindMapFormat(NameOf(format)) == format);
}

TEST_CASE("a file cut off anywhere is refused, or YAML between layers, holds those before", "[maps]") {
  Rng rng(7);
  const MapFile map = RandomMap(rng);
  for (MapFormat format : kFormats) {
    const std::string whole = *RenderMap(map, format);
    for (size_t length = 0; length < whole.size(); ++length) {
      const auto read = ParseMap(whole.substr(0, length), format, HintsOf(map));
      if (!read.ok()) continue;
      const auto kept = std::min(read->layers.size(), map.layers.size());
      CHECK((format == MapFormat::kTrtllm || kept == map.layers.size()));
      CHECK(std::equal(read->layers.begin(), read->layers.end(), map.layers.begin(),
                       map.layers.begin() + static_cast<std::ptrdiff_t>(kept)));
    }
  }
}

TEST_CASE("a flipped byte never gives a map that is not valid", "[maps]") {
  const uint64_t seed = GENERATE(range<uint64_t>(1, 9));
  CAPTURE(seed);
  Rng rng(seed);
  const MapFile map = RandomMap(rng);
  for (MapFormat format : kFormats) {
    const std::string whole = *RenderMap(map, format);
    for (int i = 0; i < 200; ++i) {
      std::string bytes = whole;
      bytes[rng.Below(bytes.size())] = static_cast<char>(rng.Below(256));
      const auto read = ParseMap(bytes, format, {.num_ranks = map.shape.num_ranks});
      if (!read.ok()) continue;
      REQUIRE(read->shape.num_redundant() >= -map.shape.num_experts * 10);
      for (const LayerPlan& plan : read->layers) {
        REQUIRE(plan.placement.expert_of_slot.size() == static_cast<size_t>(read->shape.num_slots()));
        for (ExpertId expert : plan.placement.expert_of_slot) REQUIRE(expert.value() < read->shape.num_experts);
        if (format != MapFormat::kEvenkeel) REQUIRE(algos::Validate(plan.placement, read->shape).ok());
      }
    }
  }
}

TEST_CASE("files are read, and errors name them", "[maps]") {
  const char* folder = std::getenv("TEST_TMPDIR");
  const std::string path = std::string(folder != nullptr ? folder : "/tmp") + "/map_formats_test.json";
  std::ofstream(path) << R"({"physical_to_logical_map": [[0, 1]]})";
  CHECK(ReadMap(path, std::nullopt, {.num_ranks = 2}).ok());
  CHECK(ReadMap(path, std::nullopt, {}).status().message() ==
        path + ": map: the file does not say how many ranks there are");
  CHECK(ReadMap(path + "x", std::nullopt, {}).status().code() == absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace evenkeel::cli
