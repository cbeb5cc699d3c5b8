// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/repair/move_budget.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>
#include <set>

#include "algos/base/rng.h"
#include "algos/moves.h"
#include "algos/policies/registry.h"
#include "tests/algos/planning_reference.h"

namespace evenkeel::algos {
namespace {

using testing::LogNormalLoad;
using testing::RandomPlacement;
using testing::RandomProblem;

// The lowest largest cost over all placements whose ranks mix what is there with what is planned: every choice of
// experts for every rank, by brute force.
double BestMixture(const Problem& problem, const Placement& planned, int moves_max) {
  const Shape& shape = problem.shape;
  const Placement& current = problem.current[0];
  const size_t count = static_cast<size_t>(shape.slots_per_rank);
  std::vector<std::set<std::vector<ExpertId>>> contents(static_cast<size_t>(shape.num_ranks));
  for (size_t rank = 0; rank < contents.size(); ++rank) {
    const auto at = [&](const Placement& p) {
      std::vector<ExpertId> content(p.expert_of_slot.begin() + static_cast<std::ptrdiff_t>(rank * count),
                                    p.expert_of_slot.begin() + static_cast<std::ptrdiff_t>((rank + 1) * count));
      std::ranges::sort(content);
      return content;
    };
    const std::vector<ExpertId> now = at(current), then = at(planned);
    std::vector<ExpertId> both, all;
    std::ranges::set_intersection(now, then, std::back_inserter(both));
    std::ranges::set_union(now, then, std::back_inserter(all));
    for (uint32_t subset = 0; subset < 1u << all.size(); ++subset) {
      std::vector<ExpertId> content;
      for (size_t i = 0; i < all.size(); ++i) {
        if (subset >> i & 1) content.push_back(all[i]);
      }
      if (content.size() == count && std::ranges::includes(content, both)) contents[rank].insert(content);
    }
  }
  LayerCosts costs(problem, problem.episodes[0].layer(LayerId(0)));
  double best = std::numeric_limits<double>::infinity();
  Placement placement;
  const auto choose = [&](const auto& self, size_t rank) -> void {
    if (rank == contents.size()) {
      if (!Validate(placement, shape).ok() || CountMoves(shape, current, placement) > moves_max) return;
      costs.Reset(placement);
      best = std::min(best, costs.Now().max);
      return;
    }
    for (const auto& content : contents[rank]) {
      placement.expert_of_slot.insert(placement.expert_of_slot.end(), content.begin(), content.end());
      self(self, rank + 1);
      placement.expert_of_slot.resize(rank * count);
    }
  };
  choose(choose, 0);
  return best;
}

TEST_CASE("a budget is spent as an exhaustive search would on small cases", "[move_budget]") {
  int below_start = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    Problem problem{.shape = {.num_experts = 5, .num_ranks = 3, .slots_per_rank = 2}, .num_layers = 1};
    problem.episodes = {LogNormalLoad(1, 5, 1.0, rng)};
    problem.current = {RandomPlacement(problem.shape, rng)};
    const Placement planned = RandomPlacement(problem.shape, rng);
    LayerCosts costs(problem, problem.episodes[0].layer(LayerId(0)));
    for (int moves_max = 0; moves_max <= 6; ++moves_max) {
      CAPTURE(moves_max);
      costs.Reset(problem.current[0]);
      const double start = costs.Now().max;
      MoveTowards(problem, problem.current[0], planned, moves_max, costs);
      CHECK(costs.Now().max == Approx(BestMixture(problem, planned, moves_max)));
      CHECK(CountMoves(problem.shape, problem.current[0], costs.placement()) <= moves_max);
      below_start += costs.Now().max < start ? 1 : 0;
    }
  }
  CHECK(below_start > 50);
}

TEST_CASE("a budget is held on large cases and every part of it that is spent helps", "[move_budget]") {
  Rng rng(11);
  Problem problem = RandomProblem(rng, 1, 16, 5, 64);
  const Load total = TotalLoad(problem);
  const auto planned = *PlanBy("greedy", problem);
  for (size_t layer = 0; layer < 3; ++layer) {
    LayerCosts costs(problem, total.layer(LayerId(static_cast<int>(layer))));
    costs.Reset(problem.current[layer]);
    const double start = costs.Now().max;
    double least = start;
    for (int moves_max : {0, 1, 2, 4, 8, 16, 32}) {
      CAPTURE(moves_max);
      costs.Reset(problem.current[layer]);
      MoveTowards(problem, problem.current[layer], planned[layer].placement, moves_max, costs);
      CHECK(Validate(costs.placement(), problem.shape).ok());
      CHECK(CountMoves(problem.shape, problem.current[layer], costs.placement()) <= moves_max);
      CHECK(costs.Now().max <= start);
      least = std::min(least, costs.Now().max);
    }
    costs.Reset(planned[layer].placement);
    CHECK(least - costs.Now().max < 0.35 * (start - costs.Now().max));
  }
}

TEST_CASE("experts and tokens both cost where a group says so", "[move_budget]") {
  Problem problem{.shape = {.num_experts = 4, .num_ranks = 2, .slots_per_rank = 3}, .num_layers = 1};
  problem.episodes = {{.num_layers = 1, .num_experts = 4, .tokens = {8, 4, 2, 0}}};
  problem.cost = {.per_expert = 10, .per_token = 0.5};
  problem.capacities = {1, 2};
  LayerCosts costs(problem, problem.episodes[0].layer(LayerId(0)));
  Placement placement;
  for (int e : {0, 1, 3, 0, 0, 2}) placement.expert_of_slot.push_back(ExpertId(e));
  costs.Reset(placement);
  CHECK(costs.cost(RankId(0)) == Approx(20 + (8 / 3.0 + 4) / 2));
  CHECK(costs.cost(RankId(1)) == Approx((20 + (16 / 3.0 + 2) / 2) / 2));
  const std::vector<SlotChange> changes = {{SlotIdx(1), ExpertId(2)}, {SlotIdx(4), ExpertId(1)}};
  const double after = costs.After(changes).max;
  CHECK(costs.placement() == placement);
  for (const SlotChange& change : changes) costs.Set(change);
  CHECK(costs.Now().max == Approx(after));
  CHECK(costs.cost(RankId(0)) == Approx(20 + (4 + 1) / 2.0));
}

}  // namespace
}  // namespace evenkeel::algos
