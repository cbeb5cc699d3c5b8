// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/greedy.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "algos/base/rng.h"
#include "algos/layer_map.h"
#include "tests/algos/planning_reference.h"

namespace evenkeel::algos {
namespace {

using evenkeel::testing::LogNormalLoad;

Problem ProblemOf(Shape shape, int num_layers, uint64_t seed, double sigma = 1.0) {
  Rng rng(seed);
  Problem problem{.shape = shape, .num_layers = num_layers};
  problem.episodes = {LogNormalLoad(num_layers, shape.num_experts, sigma, rng)};
  return problem;
}

std::vector<Placement> Plan(const Problem& problem) {
  const auto placements = PlanGreedy(problem);
  REQUIRE(placements.status() == absl::OkStatus());
  return *placements;
}

// Heaviest rank over the mean of the living ones.
double Imbalance(const Problem& problem, const Placement& placement, int layer) {
  const Load total = TotalLoad(problem);
  const auto loads =
      RankLoads(EvenMap(placement, problem.shape.num_experts), problem.shape, total.layer(LayerId(layer)));
  double sum = 0;
  for (double load : loads) sum += load;
  return sum > 0 ? *std::max_element(loads.begin(), loads.end()) * problem.num_live_ranks() / sum : 1.0;
}

int Moves(const Placement& from, const Placement& to, const Shape& shape) {
  int moves = 0;
  for (int slot = 0; slot < shape.num_slots(); ++slot) {
    const ExpertId expert = to.expert_of_slot[static_cast<size_t>(slot)];
    const auto first = from.expert_of_slot.begin() + slot / shape.slots_per_rank * shape.slots_per_rank;
    if (expert != kNoExpert && std::find(first, first + shape.slots_per_rank, expert) == first + shape.slots_per_rank) {
      ++moves;
    }
  }
  return moves;
}

// Every expert placed, none twice on a rank, nothing on the dead, no slot wasted.
void CheckRules(const Problem& problem, const Placement& placement) {
  const Shape& shape = problem.shape;
  REQUIRE(Validate(placement, shape) == absl::OkStatus());
  int used = 0;
  for (int rank = 0; rank < shape.num_ranks; ++rank) {
    std::set<ExpertId> seen;
    for (int local = 0; local < shape.slots_per_rank; ++local) {
      const ExpertId expert = placement.expert_of_slot[shape.SlotAt(RankId(rank), local).idx()];
      if (expert == kNoExpert) continue;
      ++used;
      REQUIRE(problem.IsLive(RankId(rank)));
      REQUIRE(seen.insert(expert).second);
    }
  }
  const int live = problem.num_live_ranks();
  const bool by_node =
      problem.num_expert_groups > 1 && problem.num_expert_groups % problem.num_nodes == 0 && live == shape.num_ranks;
  REQUIRE(used == live * std::min(shape.slots_per_rank, shape.num_experts / (by_node ? problem.num_nodes : 1)));
}

Problem RandomProblem(Rng& rng) {
  Problem problem;
  problem.num_nodes = static_cast<int>(rng.Between(1, 4));
  problem.shape.num_ranks = problem.num_nodes * static_cast<int>(rng.Between(1, 5));
  problem.num_expert_groups = static_cast<int>(rng.Between(1, 4));
  problem.shape.num_experts = problem.num_expert_groups * static_cast<int>(rng.Between(1, 12));
  problem.num_layers = 2;
  if (rng.Chance(0.4)) {
    problem.dead_ranks.resize(static_cast<size_t>(problem.shape.num_ranks));
    for (size_t r = 1; r < problem.dead_ranks.size(); ++r) problem.dead_ranks[r] = rng.Chance(0.3);
  }
  const int live = problem.num_live_ranks();
  problem.shape.slots_per_rank = (problem.shape.num_experts + live - 1) / live + static_cast<int>(rng.Below(4));
  problem.episodes = {LogNormalLoad(2, problem.shape.num_experts, rng.Uniform() * 4, rng)};
  for (uint64_t& tokens : problem.episodes[0].tokens) {
    if (rng.Chance(0.2)) tokens = rng.Chance(0.5) ? 0 : 500;
  }
  if (rng.Chance(0.5)) problem.current.assign(2, DefaultPlacement(problem.shape));
  return problem;
}

TEST_CASE("any problem is placed by the rules", "[greedy]") {
  const uint64_t seed = GENERATE(range(0, 1500));
  CAPTURE(seed);
  Rng rng(seed);
  const Problem problem = RandomProblem(rng);
  const auto placements = Plan(problem);
  for (const Placement& placement : placements) CheckRules(problem, placement);
  CHECK(placements == Plan(problem));
}

TEST_CASE("planning again on the same loads changes nothing", "[greedy]") {
  const uint64_t seed = GENERATE(range(0, 200));
  CAPTURE(seed);
  Rng rng(seed);
  Problem problem = RandomProblem(rng);
  problem.current = Plan(problem);
  CHECK(Plan(problem) == problem.current);
}

TEST_CASE("a layer is balanced to a few percent, and never worse than by DeepSeek's packing by more than that",
          "[greedy]") {
  const uint64_t seed = GENERATE(range(0, 10));
  CAPTURE(seed);
  const Problem problem = ProblemOf({.num_experts = 256, .num_ranks = 32, .slots_per_rank = 9}, 4, seed);
  const auto placements = Plan(problem);
  const auto deepseek = *PlanDeepseek(problem);
  for (int layer = 0; layer < 4; ++layer) {
    const size_t at = static_cast<size_t>(layer);
    CHECK(Imbalance(problem, placements[at], layer) < 1.05);
    CHECK(Imbalance(problem, placements[at], layer) < Imbalance(problem, deepseek[at], layer) + 0.02);
  }
}

TEST_CASE("eight experts on eight ranks with two slots each reach what greedy packing can", "[greedy]") {
  Problem problem{.shape = {.num_experts = 8, .num_ranks = 8, .slots_per_rank = 2}, .num_layers = 1};
  problem.episodes = {{.num_layers = 1, .num_experts = 8, .tokens = {600, 560, 120, 120, 20, 10, 10, 10}}};
  const auto placements = Plan(problem);
  CheckRules(problem, placements[0]);
  CHECK(Imbalance(problem, placements[0], 0) * 1450 / 8 < 232.5);
}

TEST_CASE("idle layers spread their replicas over the experts", "[greedy]") {
  Problem problem{.shape = {.num_experts = 8, .num_ranks = 4, .slots_per_rank = 3}, .num_layers = 1};
  problem.episodes = {{.num_layers = 1, .num_experts = 8, .tokens = std::vector<uint64_t>(8, 0)}};
  const Replicas replicas = Invert(Plan(problem)[0], 8);
  for (int e = 0; e < 8; ++e) CHECK(replicas.num_replicas(ExpertId(e)) == (e < 4 ? 2 : 1));
}

TEST_CASE("ranks are renamed: a shuffled copy of a plan costs no move", "[greedy]") {
  const Shape shape{.num_experts = 64, .num_ranks = 16, .slots_per_rank = 5};
  Problem problem = ProblemOf(shape, 1, 3);
  const Placement planned = Plan(problem)[0];
  Rng rng(5);
  std::vector<int> order(16);
  for (int i = 0; i < 16; ++i) order[static_cast<size_t>(i)] = i;
  rng.Shuffle(order);
  Placement shuffled = planned;
  for (int rank = 0; rank < 16; ++rank) {
    std::vector<ExpertId> slots(5);
    for (int i = 0; i < 5; ++i)
      slots[static_cast<size_t>(i)] = planned.expert_of_slot[static_cast<size_t>(rank * 5 + i)];
    rng.Shuffle(slots);
    for (int i = 0; i < 5; ++i) {
      shuffled.expert_of_slot[static_cast<size_t>(order[static_cast<size_t>(rank)] * 5 + i)] =
          slots[static_cast<size_t>(i)];
    }
  }
  problem.current = {shuffled};
  CHECK(Plan(problem)[0] == shuffled);
}

TEST_CASE("a small drift of loads costs fewer moves than a plan made from nothing", "[greedy]") {
  const Shape shape{.num_experts = 128, .num_ranks = 16, .slots_per_rank = 9};
  Problem problem = ProblemOf(shape, 4, 9);
  const auto before = Plan(problem);
  Rng rng(10);
  for (uint64_t& tokens : problem.episodes[0].tokens) tokens += rng.Below(tokens / 5 + 1);
  const auto from_nothing = Plan(problem);
  problem.current = before;
  const auto renamed = Plan(problem);
  int moves = 0, moves_from_nothing = 0;
  for (size_t layer = 0; layer < 4; ++layer) {
    moves += Moves(before[layer], renamed[layer], shape);
    moves_from_nothing += Moves(before[layer], from_nothing[layer], shape);
    CHECK(Imbalance(problem, renamed[layer], static_cast<int>(layer)) ==
          Approx(Imbalance(problem, from_nothing[layer], static_cast<int>(layer))));
  }
  CAPTURE(moves, moves_from_nothing);
  CHECK(moves * 10 < moves_from_nothing * 9);
}

TEST_CASE("replicas of a hot expert go to different nodes, also after renaming", "[greedy]") {
  Problem problem{.shape = {.num_experts = 16, .num_ranks = 8, .slots_per_rank = 3}, .num_layers = 1, .num_nodes = 4};
  Load load{.num_layers = 1, .num_experts = 16, .tokens = std::vector<uint64_t>(16, 100)};
  load.tokens[5] = 900;
  problem.episodes = {load};
  const bool with_current = GENERATE(false, true);
  if (with_current) problem.current = {DefaultPlacement(problem.shape)};
  const Placement placement = Plan(problem)[0];
  std::set<int> nodes;
  const Replicas replicas = Invert(placement, 16);
  REQUIRE(replicas.num_replicas(ExpertId(5)) >= 4);
  for (SlotIdx slot : replicas.slots_of(ExpertId(5))) nodes.insert(problem.shape.RankOf(slot).value() / 2);
  CHECK(nodes.size() == 4);
}

TEST_CASE("groups of experts stay on one node where they divide by the nodes", "[greedy]") {
  const uint64_t seed = GENERATE(range(0, 20));
  CAPTURE(seed);
  Problem problem = ProblemOf({.num_experts = 64, .num_ranks = 8, .slots_per_rank = 9}, 2, seed);
  problem.num_nodes = 4;
  problem.num_expert_groups = 8;
  const bool with_current = GENERATE(false, true);
  if (with_current) problem.current.assign(2, DefaultPlacement(problem.shape));
  for (const Placement& placement : Plan(problem)) {
    CheckRules(problem, placement);
    std::vector<std::set<int>> nodes(8);
    for (int slot = 0; slot < problem.shape.num_slots(); ++slot) {
      nodes[placement.expert_of_slot[static_cast<size_t>(slot)].idx() / 8].insert(slot / 18);
    }
    for (const auto& of_group : nodes) CHECK(of_group.size() == 1);
  }
}

TEST_CASE("an expert with more load is never given fewer replicas", "[greedy]") {
  const uint64_t seed = GENERATE(range(0, 20));
  CAPTURE(seed);
  const Problem problem = ProblemOf({.num_experts = 48, .num_ranks = 12, .slots_per_rank = 6}, 1, seed, 2.0);
  const Replicas replicas = Invert(Plan(problem)[0], 48);
  const auto& tokens = problem.episodes[0].tokens;
  for (int a = 0; a < 48; ++a) {
    for (int b = 0; b < 48; ++b) {
      if (tokens[static_cast<size_t>(a)] > tokens[static_cast<size_t>(b)]) {
        CHECK(replicas.num_replicas(ExpertId(a)) >= replicas.num_replicas(ExpertId(b)));
      }
    }
  }
}

TEST_CASE("layers that were not asked for keep their placement", "[greedy]") {
  Problem problem = ProblemOf({.num_experts = 32, .num_ranks = 8, .slots_per_rank = 5}, 3, 1);
  problem.current.assign(3, DefaultPlacement(problem.shape));
  problem.layers = {LayerId(2)};
  const auto placements = Plan(problem);
  CHECK(placements[0] == problem.current[0]);
  CHECK(placements[1] == problem.current[1]);
  CHECK(placements[2] != problem.current[2]);
}

TEST_CASE("huge and tiny counts are planned alike", "[greedy]") {
  const Shape shape{.num_experts = 32, .num_ranks = 8, .slots_per_rank = 5};
  Problem problem = ProblemOf(shape, 1, 2);
  const auto plain = Plan(problem);
  for (uint64_t& tokens : problem.episodes[0].tokens) tokens <<= 44;
  CHECK(Plan(problem) == plain);
}

}  // namespace
}  // namespace evenkeel::algos
