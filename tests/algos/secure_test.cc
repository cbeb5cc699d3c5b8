// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/repair/secure.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <functional>

#include "algos/base/rng.h"
#include "algos/policies/repair/protection.h"
#include "algos/policies/repair/repair.h"
#include "algos/survivability.h"

namespace evenkeel::algos {
namespace {

Placement Holding(const std::vector<int>& experts) {
  Placement placement;
  for (int expert : experts) placement.expert_of_slot.push_back(ExpertId(expert));
  return placement;
}

Placement Secured(const Problem& problem, const Placement& start, SecureRules rules = {}) {
  LayerCosts costs(problem, problem.episodes.front().layer(LayerId(0)));
  costs.Reset(start);
  RepairLayer(problem, LayerId(0), costs);
  SecureLayer(problem, LayerId(0), rules, costs);
  return costs.placement();
}

Problem SmallProblem(Rng& rng) {
  Problem problem{.shape = {.num_experts = static_cast<int>(rng.Between(2, 3)),
                            .num_ranks = static_cast<int>(rng.Between(2, 4)),
                            .slots_per_rank = static_cast<int>(rng.Between(1, 2))},
                  .num_layers = 1};
  if (problem.shape.num_redundant() < 0) problem.shape.slots_per_rank = 2;
  Load load{.num_layers = 1, .num_experts = problem.shape.num_experts, .tokens = {}};
  for (int e = 0; e < problem.shape.num_experts; ++e) load.tokens.push_back(rng.Below(100));
  problem.episodes = {load};
  for (int rank = 0; rank < problem.shape.num_ranks; ++rank) {
    problem.hosts.push_back(static_cast<int32_t>(rng.Below(3)));
  }
  return problem;
}

Placement AnyPlacement(const Problem& problem, Rng& rng) {
  Placement placement;
  for (int s = 0; s < problem.shape.num_slots(); ++s) {
    placement.expert_of_slot.push_back(ExpertId(static_cast<int>(rng.Between(-1, problem.shape.num_experts - 1))));
  }
  BlankDeadRanks(problem, placement);
  return placement;
}

// Of every level, whether each expert has it, those with most tokens first: what is to be largest.
std::vector<bool> MeritOf(const Problem& problem, const Placement& placement) {
  const std::vector<int> levels = Protection(problem).LevelsOf(placement);
  std::vector<int> order;
  for (int e = 0; e < problem.shape.num_experts; ++e) order.push_back(e);
  const auto& tokens = problem.episodes.front().tokens;
  std::ranges::stable_sort(order, std::greater<>(), [&](int e) { return tokens[static_cast<size_t>(e)]; });
  std::vector<bool> merit;
  for (int level = 0; level <= Protection(problem).num_levels(); ++level) {
    for (int e : order) merit.push_back(levels[static_cast<size_t>(e)] >= level);
  }
  return merit;
}

bool KeepsPins(const Problem& problem, const Placement& placement) {
  return std::ranges::all_of(problem.pins, [&](const Pin& pin) {
    for (int local = 0; local < problem.shape.slots_per_rank; ++local) {
      if (placement.expert_of_slot[problem.shape.SlotAt(pin.rank, local).idx()] == pin.expert) return true;
    }
    return false;
  });
}

// The largest merit of all placements.
std::vector<bool> BestMerit(const Problem& problem) {
  std::vector<bool> best;
  Placement placement;
  placement.expert_of_slot.resize(static_cast<size_t>(problem.shape.num_slots()));
  const std::function<void(size_t)> fill = [&](size_t slot) {
    if (slot == placement.expert_of_slot.size()) {
      if (KeepsPins(problem, placement)) best = std::max(best, MeritOf(problem, placement));
      return;
    }
    const RankId rank = problem.shape.RankOf(SlotIdx(static_cast<int32_t>(slot)));
    for (int e = problem.IsLive(rank) ? 0 : -1; e < (problem.IsLive(rank) ? problem.shape.num_experts : 0); ++e) {
      placement.expert_of_slot[slot] = ExpertId(e);
      fill(slot + 1);
    }
  };
  fill(0);
  return best;
}

}  // namespace

TEST_CASE("no placement protects more than a secured one, whatever it began from", "[secure]") {
  const int seed = GENERATE(range(0, 600));
  CAPTURE(seed);
  Rng rng(static_cast<uint64_t>(seed));
  Problem problem = SmallProblem(rng);
  (rng.Chance(0.5) ? problem.survive.ranks : problem.survive.hosts) = static_cast<int>(rng.Between(1, 3));
  if (rng.Chance(0.4)) {
    const RankId rank(static_cast<int>(rng.Below(static_cast<uint64_t>(problem.shape.num_ranks))));
    problem.pins = {{LayerId(0), ExpertId(1), rank}, {LayerId(0), ExpertId(0), RankId(0)}};
    if (!ValidateRoomForPins(problem).ok()) problem.pins.clear();
  } else if (rng.Chance(0.5)) {
    problem.dead_ranks.assign(static_cast<size_t>(problem.shape.num_ranks), false);
    problem.dead_ranks[0] = true;
    if (!Validate(problem).ok()) problem.dead_ranks.clear();
  }
  const Placement secured = Secured(problem, AnyPlacement(problem, rng));
  REQUIRE(Validate(secured, problem.shape).ok());
  CHECK(KeepsPins(problem, secured));
  CHECK(MeritOf(problem, secured) == BestMerit(problem));
}

TEST_CASE("without leave to take from colder experts none loses protection", "[secure]") {
  const int seed = GENERATE(range(0, 300));
  CAPTURE(seed);
  Rng rng(static_cast<uint64_t>(seed));
  Problem problem = SmallProblem(rng);
  problem.survive = {.ranks = static_cast<int>(rng.Below(3)), .hosts = static_cast<int>(rng.Below(3))};
  const Placement start =
      Secured({.shape = problem.shape, .num_layers = 1, .episodes = problem.episodes}, AnyPlacement(problem, rng));
  const std::vector<int> before = Protection(problem).LevelsOf(start);
  const Placement secured = Secured(problem, start, {.may_take_from_colder = false});
  const std::vector<int> after = Protection(problem).LevelsOf(secured);
  CHECK(std::ranges::equal(after, before, std::greater_equal<>()));
  // And again it changes nothing.
  CHECK(Secured(problem, secured, {.may_take_from_colder = false}) == secured);
}

TEST_CASE("too few slots protect the hottest experts first", "[secure]") {
  Problem problem{.shape = {.num_experts = 4, .num_ranks = 3, .slots_per_rank = 2}, .num_layers = 1};
  problem.episodes = {{.num_layers = 1, .num_experts = 4, .tokens = {1, 40, 30, 2}}};
  problem.survive.ranks = 1;
  const Placement secured = Secured(problem, Holding({0, 1, 2, 3, 0, 0}));
  CHECK(Protection(problem).LevelsOf(secured) == std::vector<int>{0, 1, 1, 0});
}

TEST_CASE("every expert survives one rank before any survives two", "[secure]") {
  Problem problem{.shape = {.num_experts = 2, .num_ranks = 5, .slots_per_rank = 1}, .num_layers = 1};
  problem.episodes = {{.num_layers = 1, .num_experts = 2, .tokens = {100, 1}}};
  problem.survive.ranks = 3;
  const Placement secured = Secured(problem, Holding({0, 0, 0, 0, 1}));
  CHECK(SurvivabilityOf(secured, problem.shape, HostOfRank(problem)).ranks.serving == 1);
  CHECK(Protection(problem).LevelsOf(secured) == std::vector<int>{2, 1});
}

TEST_CASE("replicas change places where no slot is free on another host", "[secure]") {
  // Host 0 has all of expert 0, host 1 all of expert 1: each must cross.
  Problem problem{.shape = {.num_experts = 2, .num_ranks = 4, .slots_per_rank = 1}, .num_layers = 1, .num_nodes = 2};
  problem.episodes = {{.num_layers = 1, .num_experts = 2, .tokens = {5, 5}}};
  problem.survive.hosts = 1;
  const Placement secured = Secured(problem, Holding({0, 0, 1, 1}));
  CHECK(SurvivabilityOf(secured, problem.shape, HostOfRank(problem)).hosts.serving == 1);
}

}  // namespace evenkeel::algos
