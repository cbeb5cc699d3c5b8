// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/deepseek.h"

#include <catch2/catch.hpp>

#include "algos/base/rng.h"
#include "tests/algos/planning_reference.h"
#include "tests/golden/golden.h"

namespace evenkeel::algos {
namespace {

using evenkeel::testing::Golden;

Load GoldenLoad(const Golden& golden) {
  return {.num_layers = static_cast<int>(golden.rows("tokens").size()),
          .num_experts = golden.number("experts"),
          .tokens = golden.flat<uint64_t>("tokens")};
}

// Loads with many ties, zeros, and values that float32 rounds.
Load OddLoad(int num_layers, int num_experts, Rng& rng) {
  Load load = evenkeel::testing::LogNormalLoad(num_layers, num_experts, 1.5, rng);
  const uint64_t kind = rng.Below(4);
  for (uint64_t& tokens : load.tokens) {
    if (kind == 1) tokens = rng.Below(4);
    if (kind == 2) tokens *= 100'003;
    if (kind == 3 && rng.Chance(0.5)) tokens = 0;
  }
  return load;
}

DeepseekOptions RandomOptions(int& num_experts, Rng& rng) {
  DeepseekOptions options;
  options.num_nodes = static_cast<int>(rng.Between(1, 4));
  options.num_gpus = options.num_nodes * static_cast<int>(rng.Between(1, 8));
  options.num_groups = static_cast<int>(rng.Between(1, 8));
  num_experts = options.num_groups * static_cast<int>(rng.Between(1, 24));
  const int per_gpu = (num_experts + options.num_gpus - 1) / options.num_gpus + static_cast<int>(rng.Below(3));
  options.num_replicas = per_gpu * options.num_gpus;
  return options;
}

TEST_CASE("the published example comes out as published", "[deepseek]") {
  const Golden golden("deepseek_readme.txt");
  const auto maps = RebalanceExperts(GoldenLoad(golden), {.num_replicas = golden.number("replicas"),
                                                          .num_groups = golden.number("hierarchical_groups"),
                                                          .num_nodes = golden.number("hierarchical_nodes"),
                                                          .num_gpus = golden.number("gpus")});
  REQUIRE(maps.ok());
  CHECK(maps->physical_to_logical == golden.flat<int32_t>("hierarchical"));
  CHECK(maps->logical_count == golden.flat<int32_t>("count"));
  CHECK(maps->width == 2);
}

TEST_CASE("the published loads in global mode come out as DeepSeek's code has them", "[deepseek]") {
  const Golden golden("deepseek_readme.txt");
  // Three groups do not divide by two nodes, so everything is one node.
  for (const int nodes : {1, 2}) {
    const auto maps = RebalanceExperts(GoldenLoad(golden), {.num_replicas = golden.number("replicas"),
                                                            .num_groups = nodes == 1 ? 1 : 3,
                                                            .num_nodes = nodes,
                                                            .num_gpus = golden.number("gpus")});
    REQUIRE(maps.ok());
    CHECK(maps->physical_to_logical == golden.flat<int32_t>("global"));
  }
}

TEST_CASE("every layer equals the plain re-statement of the algorithm", "[deepseek]") {
  const uint64_t seed = GENERATE(range(0, 300));
  CAPTURE(seed);
  Rng rng(seed);
  int num_experts = 0;
  const DeepseekOptions options = RandomOptions(num_experts, rng);
  const Load load = OddLoad(3, num_experts, rng);
  const auto maps = RebalanceExperts(load, options);
  REQUIRE(maps.ok());
  for (int layer = 0; layer < load.num_layers; ++layer) {
    const auto tokens = load.layer(LayerId(layer));
    const auto want =
        evenkeel::testing::ReferenceRebalance(std::vector<uint64_t>(tokens.begin(), tokens.end()), options);
    for (int slot = 0; slot < options.num_replicas; ++slot) {
      const size_t s = static_cast<size_t>(slot);
      const int32_t expert = maps->physical_to_logical[static_cast<size_t>(layer * options.num_replicas) + s];
      REQUIRE(expert == want.expert[s]);
      const int row = layer * num_experts + expert;
      REQUIRE(maps->logical_to_physical[static_cast<size_t>(row * maps->width + want.replica[s])] == slot);
    }
  }
}

TEST_CASE("counts add up to the slots and entries beyond the count are -1", "[deepseek]") {
  const uint64_t seed = GENERATE(range(1000, 1050));
  CAPTURE(seed);
  Rng rng(seed);
  int num_experts = 0;
  const DeepseekOptions options = RandomOptions(num_experts, rng);
  const auto maps = RebalanceExperts(OddLoad(2, num_experts, rng), options);
  REQUIRE(maps.ok());
  int total = 0;
  for (size_t row = 0; row < maps->logical_count.size(); ++row) {
    CHECK(maps->logical_count[row] >= 1);
    total += maps->logical_count[row];
    for (int i = 0; i < maps->width; ++i) {
      const int32_t slot = maps->logical_to_physical[row * static_cast<size_t>(maps->width) + static_cast<size_t>(i)];
      CHECK((slot >= 0) == (i < maps->logical_count[row]));
    }
  }
  CHECK(total == 2 * options.num_replicas);
}

TEST_CASE("an idle group gets its extra replicas from expert 0, as at DeepSeek's", "[deepseek]") {
  const Load load{.num_layers = 1, .num_experts = 8, .tokens = std::vector<uint64_t>(8, 0)};
  const auto maps = RebalanceExperts(load, {.num_replicas = 12, .num_gpus = 12});
  REQUIRE(maps.ok());
  CHECK(maps->physical_to_logical == std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0});
}

TEST_CASE("the policy plans on all episodes, only the layers asked for, and gives the same result twice",
          "[deepseek]") {
  Rng rng(7);
  Problem problem{.shape = {.num_experts = 32, .num_ranks = 8, .slots_per_rank = 5}, .num_layers = 3};
  problem.episodes = {evenkeel::testing::LogNormalLoad(3, 32, 1, rng), evenkeel::testing::LogNormalLoad(3, 32, 1, rng)};
  problem.current.assign(3, DefaultPlacement(problem.shape));
  problem.layers = {LayerId(1)};
  const auto placements = PlanDeepseek(problem);
  REQUIRE(placements.ok());
  CHECK(placements == PlanDeepseek(problem));
  CHECK((*placements)[0] == problem.current[0]);
  CHECK((*placements)[2] == problem.current[2]);
  const Load total = TotalLoad(problem);
  const auto maps = RebalanceExperts(total, {.num_replicas = 40, .num_gpus = 8});
  for (size_t s = 0; s < 40; ++s) {
    CHECK((*placements)[1].expert_of_slot[s].value() == maps->physical_to_logical[40 + s]);
  }
  CHECK(Validate((*placements)[1], problem.shape).ok());
}

TEST_CASE("what the algorithm cannot express is refused by name", "[deepseek]") {
  const Load load{.num_layers = 1, .num_experts = 8, .tokens = std::vector<uint64_t>(8, 1)};
  const auto message = [&](const DeepseekOptions& options) {
    return std::string(RebalanceExperts(load, options).status().message());
  };
  CHECK(message({.num_replicas = 10, .num_gpus = 4}) == "deepseek: 10 replicas do not divide by 4 GPUs");
  CHECK(message({.num_replicas = 8, .num_groups = 3, .num_gpus = 4}) ==
        "deepseek: 8 experts do not divide by 3 groups");
  CHECK(message({.num_replicas = 8, .num_nodes = 3, .num_gpus = 4}) == "deepseek: 4 GPUs do not divide by 3 nodes");
  CHECK(message({.num_replicas = 4, .num_gpus = 4}) == "deepseek: 8 experts do not fit in 4 replicas");
  Problem problem{.shape = {.num_experts = 8, .num_ranks = 4, .slots_per_rank = 3}, .num_layers = 1};
  problem.episodes = {load};
  problem.dead_ranks = {false, true, false, false};
  CHECK(PlanDeepseek(problem).status().message() == "deepseek: cannot leave out 1 dead ranks; use greedy");
}

}  // namespace
}  // namespace evenkeel::algos
