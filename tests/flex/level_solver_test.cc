// SPDX-License-Identifier: Apache-2.0
#include "algos/flex/level_solver.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "algos/base/rng.h"
#include "algos/placement.h"
#include "algos/shares.h"

namespace evenkeel::algos {
namespace {

struct Case {
  Shape shape;
  Placement placement;
  std::vector<int64_t> tokens;
};

// Any placement with every expert on some rank and none twice on one.
Case RandomCase(uint64_t seed) {
  Rng rng(seed);
  Case made;
  made.shape = {.num_experts = static_cast<int>(rng.Between(2, 24)), .num_ranks = static_cast<int>(rng.Between(2, 8))};
  made.shape.slots_per_rank = made.shape.num_experts / made.shape.num_ranks + 1 + static_cast<int>(rng.Below(2));
  made.shape.slots_per_rank = std::min(made.shape.slots_per_rank, made.shape.num_experts);
  made.placement = DefaultPlacement(made.shape);
  for (int e = 0; e < made.shape.num_experts; ++e) {
    made.tokens.push_back(rng.Chance(0.1) ? 0 : static_cast<int64_t>(rng.Below(1 << 20)) << (rng.Below(4)));
  }
  return made;
}

std::vector<double> RankLoadsOf(const Case& made, const Shares& shares) {
  const Replicas replicas = Invert(made.placement, made.shape.num_experts);
  std::vector<double> loads(static_cast<size_t>(made.shape.num_ranks), 0.0);
  for (int e = 0; e < made.shape.num_experts; ++e) {
    for (int32_t i = replicas.offsets[static_cast<size_t>(e)]; i < replicas.offsets[static_cast<size_t>(e) + 1]; ++i) {
      const size_t at = static_cast<size_t>(i);
      loads[made.shape.RankOf(replicas.slots[at]).idx()] +=
          shares[at] * static_cast<double>(made.tokens[static_cast<size_t>(e)]);
    }
  }
  return loads;
}

TEST_CASE("levels have the maximum that the exact solver proves, and shares reach it", "[flex]") {
  const uint64_t seed = GENERATE(range(uint64_t{1}, uint64_t{201}));
  CAPTURE(seed);
  const Case made = RandomCase(seed);
  const Replicas replicas = Invert(made.placement, made.shape.num_experts);
  LevelSolver solver(std::vector<int32_t>(static_cast<size_t>(made.shape.num_ranks), 1));
  solver.Wire(made.shape, made.placement);

  solver.Solve(made.tokens);

  const std::vector<uint64_t> tokens(made.tokens.begin(), made.tokens.end());
  const double exact = SharesSolver().Solve(made.shape, replicas, tokens).max_rank_load;
  double total = 0;
  for (int64_t count : made.tokens) total += static_cast<double>(count);
  if (total == 0) return;
  CHECK(solver.max_level() * total / made.shape.num_ranks == Approx(exact).epsilon(1e-4));
  const auto loads = RankLoadsOf(made, solver.SharesOf());
  CHECK(*std::ranges::max_element(loads) == Approx(exact).epsilon(1e-4));
  for (int rank = 0; rank < made.shape.num_ranks; ++rank) {
    CHECK(loads[static_cast<size_t>(rank)] * made.shape.num_ranks / total == Approx(solver.level(rank)).margin(1e-4));
  }
}

TEST_CASE("a rank of twice the speed bears twice the tokens", "[flex]") {
  const Shape shape{.num_experts = 2, .num_ranks = 2, .slots_per_rank = 2};
  const Placement placement = DefaultPlacement(shape);
  LevelSolver solver(std::vector<int32_t>{2, 1});
  solver.Wire(shape, placement);

  solver.Solve(std::vector<int64_t>{3000, 3000});

  const Shares shares = solver.SharesOf();  // of expert 0 on ranks 0 and 1, then of expert 1
  CHECK(shares[0] + shares[2] == Approx(4.0 / 3));
  CHECK(solver.max_level() == Approx(1.0));
}

TEST_CASE("replicas in use cost besides their tokens", "[flex]") {
  // Rank 0 holds experts 0 and 1, rank 1 expert 1 alone.
  const Shape shape{.num_experts = 2, .num_ranks = 2, .slots_per_rank = 2};
  const Placement placement{{ExpertId(0), ExpertId(1), ExpertId(1), kNoExpert}};
  LevelSolver solver(std::vector<int32_t>{1, 1});
  solver.Wire(shape, placement);

  solver.Solve(std::vector<int64_t>{1000, 1000}, 500);

  // Rank 0 cannot be brought below 1000 and two replicas in use, so it gets nothing of expert 1.
  CHECK(solver.SharesOf() == Shares{1, 0, 1});
  CHECK(solver.max_level() == Approx(2000.0 / 1750.0));
}

TEST_CASE("shares stay as preferred where they fit", "[flex]") {
  const Shape shape{.num_experts = 2, .num_ranks = 2, .slots_per_rank = 2};
  const Placement placement = DefaultPlacement(shape);
  LevelSolver solver(std::vector<int32_t>{1, 1});
  solver.Wire(shape, placement);
  // Slots hold experts 0, 1 and 1, 0.
  const std::vector<int64_t> tokens = {4000, 4000}, start = {1000, 3000, 1000, 3000};

  solver.Solve(tokens, 0, start);

  CHECK(solver.SharesOf() == Shares{0.25, 0.75, 0.75, 0.25});
}

}  // namespace
}  // namespace evenkeel::algos
