// SPDX-License-Identifier: Apache-2.0
#include "algos/flex/episode_memory.h"

#include <catch2/catch.hpp>

#include "algos/problem.h"

namespace evenkeel::algos {
namespace {

Load LoadOf(std::vector<uint64_t> tokens) {
  return {.num_layers = 1, .num_experts = static_cast<int>(tokens.size()), .tokens = std::move(tokens)};
}

EpisodeMemory NewMemory(int windows_per_block, int num_kept_max) {
  return EpisodeMemory({.num_layers = 1,
                        .num_experts = 2,
                        .windows_per_block = windows_per_block,
                        .num_kept_max = num_kept_max,
                        .fading = 1.0});
}

TEST_CASE("a block of windows becomes one episode", "[flex]") {
  EpisodeMemory memory = NewMemory(2, 4);
  memory.Observe(LoadOf({10, 0}));
  CHECK(memory.episodes().empty());

  memory.Observe(LoadOf({20, 10}));

  REQUIRE(memory.episodes().size() == 1);
  CHECK(memory.episodes()[0].parts == std::vector<double>{0.75, 0.25});
  CHECK(memory.version() == 1);
}

TEST_CASE("of too many episodes the two most alike are merged and what differs is kept", "[flex]") {
  EpisodeMemory memory = NewMemory(1, 2);

  for (uint64_t first : {90u, 10u, 80u, 20u, 85u}) memory.Observe(LoadOf({first, 100 - first}));

  REQUIRE(memory.episodes().size() == 2);
  CHECK(memory.episodes()[0].parts[0] == Approx(0.85));
  CHECK(memory.episodes()[0].weight == Approx(3));
  CHECK(memory.episodes()[1].parts[0] == Approx(0.15));
  CHECK(memory.episodes()[1].weight == Approx(2));
}

TEST_CASE("a block without tokens is an episode of nothing", "[flex]") {
  EpisodeMemory memory = NewMemory(1, 2);

  memory.Observe(LoadOf({0, 0}));

  CHECK(memory.episodes()[0].parts == std::vector<double>{0, 0});
}

}  // namespace
}  // namespace evenkeel::algos
