// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/layer_slices.h"

#include <catch2/catch.hpp>
#include <string>

#include "algos/base/rng.h"
#include "algos/policies/registry.h"
#include "tests/algos/planning_reference.h"

namespace evenkeel::algos {
namespace {

Problem ProblemOf(Rng& rng) {
  Problem problem{.shape = {.num_experts = 16, .num_ranks = 8, .slots_per_rank = 3}, .num_layers = 7, .num_nodes = 2};
  for (int i = 0; i < 5; ++i) problem.episodes.push_back(testing::LogNormalLoad(7, 16, 1.0, rng));
  problem.current.assign(7, DefaultPlacement(problem.shape));
  return problem;
}

// The calls in reverse: what one call does must be nothing to another.
void RunInReverse(size_t count, const std::function<void(size_t)>& task) {
  while (count > 0) task(--count);
}

TEST_CASE("slices hold each planned layer once, with its own pins, and of equal size", "[layer_slices]") {
  Rng rng(1);
  Problem problem = ProblemOf(rng);
  problem.layers = {LayerId(0), LayerId(2), LayerId(3), LayerId(5), LayerId(6)};
  problem.pins = {{LayerId(5), ExpertId(1), RankId(2)}, {LayerId(4), ExpertId(1), RankId(2)}};
  const auto slices = SliceLayers(problem, 2);
  REQUIRE(slices.size() == 2);
  CHECK(slices[0].layers == std::vector<LayerId>{LayerId(0), LayerId(2)});
  CHECK(slices[1].layers == std::vector<LayerId>{LayerId(3), LayerId(5), LayerId(6)});
  CHECK(slices[0].problem.pins.empty());
  CHECK(slices[1].problem.pins == std::vector<Pin>{{LayerId(1), ExpertId(1), RankId(2)}});
  for (const LayerSlice& slice : slices) {
    REQUIRE(Validate(slice.problem).ok());
    for (size_t k = 0; k < slice.layers.size(); ++k) {
      for (size_t i = 0; i < 5; ++i) {
        const auto mine = slice.problem.episodes[i].layer(LayerId(static_cast<int>(k)));
        const auto whole = problem.episodes[i].layer(slice.layers[k]);
        CHECK(std::vector(mine.begin(), mine.end()) == std::vector(whole.begin(), whole.end()));
      }
    }
  }
  CHECK(SliceLayers(problem, 100).size() == 5);
}

TEST_CASE("every policy plans the same in any number of slices", "[layer_slices]") {
  int num_cut = 0;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    Problem problem = ProblemOf(rng);
    if (seed % 2 == 1) problem.layers = {LayerId(1), LayerId(4), LayerId(5)};
    if (seed % 4 > 1) problem.pins = {{LayerId(4), ExpertId(3), RankId(6)}};
    if (seed > 3) problem.moves_max = {5, 0, 3, 9, 1, 7, 2};
    if (seed > 5) problem.dead_ranks = {false, true, false, false, false, false, false, false};
    if (seed % 3 == 1) problem.survive = {.ranks = 1, .hosts = 0};
    if (seed % 3 == 2) {
      problem.survive = {.ranks = 0, .hosts = 1};
      problem.hosts = {0, 1, 0, 1, 2, 2, 0, 1};
    }
    PolicyConfig config;
    config.placements.assign(7, DefaultPlacement(problem.shape));
    for (const NamedPolicy& policy : AllPolicies()) {
      CAPTURE(std::string(policy.name));
      const auto whole = policy.plan(problem, config);
      REQUIRE(whole.ok());
      for (size_t num_slices : {1u, 2u, 3u, 7u}) {
        CAPTURE(num_slices);
        const auto counting = [&](size_t count, const std::function<void(size_t)>& task) {
          num_cut += count > 1 ? 1 : 0;
          RunInReverse(count, task);
        };
        const auto plans = PlanInSlices(policy.name, problem, config, num_slices, counting);
        REQUIRE(plans.ok());
        CHECK(*plans == *whole);
      }
    }
  }
  CHECK(num_cut > 100);
}

TEST_CASE("a policy whose layers compete is not cut", "[layer_slices]") {
  Rng rng(2);
  const Problem problem = ProblemOf(rng);
  const PolicyConfig config{.options = {{"update_layers_upper_bound", 3}}};
  const auto never = [](size_t, const std::function<void(size_t)>&) { FAIL("cut"); };
  CHECK(*PlanInSlices("flashlb", problem, config, 3, never) == *PlanBy("flashlb", problem, config));
}

TEST_CASE("errors are those of the whole", "[layer_slices]") {
  Rng rng(3);
  Problem problem = ProblemOf(rng);
  for (int e = 0; e < 4; ++e) problem.pins.push_back({LayerId(6), ExpertId(e), RankId(0)});
  const auto refused = PlanInSlices("greedy", problem, {}, 3, RunInReverse);
  CHECK(refused.status() == PlanBy("greedy", problem).status());
  CHECK(refused.status().message().find("layer 6") != absl::string_view::npos);
  problem.episodes.clear();
  CHECK(PlanInSlices("greedy", problem, {}, 3, RunInReverse).status() == PlanBy("greedy", problem).status());
  CHECK(absl::IsNotFound(PlanInSlices("magic", problem, {}, 3, RunInReverse).status()));
}

}  // namespace
}  // namespace evenkeel::algos
