// SPDX-License-Identifier: Apache-2.0
#include "algos/replay/score.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <queue>
#include <utility>
#include <vector>

#include "algos/base/check.h"
#include "algos/base/rng.h"
#include "algos/base/status_macros.h"
#include "algos/policies/registry.h"
#include "algos/rank_cost.h"
#include "algos/replay/multinomial.h"
#include "algos/shares.h"

namespace evenkeel::algos {

namespace {

constexpr int kFloorDraws = 4000;
// Policies that pack anew, whatever was there before.
constexpr std::string_view kPackers[] = {"deepseek", "greedy"};

// Linear between the two values nearest to the rank.
double Percentile(std::vector<double> values, double percent) {
  const double at = percent / 100 * static_cast<double>(values.size() - 1);
  const size_t low = static_cast<size_t>(at);
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(low), values.end());
  const double below = values[low];
  if (low + 1 == values.size()) return below;
  const double above = *std::min_element(values.begin() + static_cast<std::ptrdiff_t>(low) + 1, values.end());
  return below + (above - below) * (at - static_cast<double>(low));
}

template <typename T>
double MeanOf(std::span<const T> values) {
  double sum = 0;
  for (T value : values) sum += static_cast<double>(value);
  return sum / static_cast<double>(values.size());
}

// The least levels that any packer's placements of one window reach, summed over its layers.
absl::StatusOr<double> BestOfWindow(Problem problem, const RankRules& rules, const Load& load, SharesSolver& solver) {
  problem.episodes = {load};
  problem.current.clear();
  std::vector<double> best(static_cast<size_t>(load.num_layers), std::numeric_limits<double>::infinity());
  for (std::string_view packer : kPackers) {
    EVENKEEL_ASSIGN_OR_RETURN(const std::vector<LayerPlan> plans, PlanBy(packer, problem));
    for (int l = 0; l < load.num_layers; ++l) {
      const auto tokens = load.layer(LayerId(l));
      const Replicas replicas = Invert(plans[static_cast<size_t>(l)].placement, problem.shape.num_experts);
      const Shares shares = solver.Solve(problem.shape, replicas, tokens, {}, rules).shares;
      double& least = best[static_cast<size_t>(l)];
      least = std::min(least, LevelOf(rules, problem.shape, replicas, shares, tokens));
    }
  }
  return std::accumulate(best.begin(), best.end(), 0.0);
}

}  // namespace

Scores ScoresOf(const ReplayResult& result, int warmup) {
  EVENKEEL_CHECK(warmup >= 0 && warmup < result.num_windows);
  const size_t first = result.At(warmup, LayerId(0)), after = result.At(warmup + 1, LayerId(0));
  const auto scored = std::span(result.imbalance).subspan(first);
  Scores scores;
  scores.imbalance_mean = MeanOf(scored);
  scores.imbalance_p95 = Percentile({scored.begin(), scored.end()}, 95);
  scores.best_shares_mean = MeanOf(std::span(result.best_shares).subspan(first));
  scores.doubled_slots = MeanOf(std::span(result.num_doubled).subspan(first));
  scores.retired_slots = MeanOf(std::span(result.num_retired).subspan(first));
  for (int32_t moves : std::span(result.moves).subspan(after)) scores.num_moves += static_cast<uint64_t>(moves);
  scores.moves_per_layer_per_100_windows = static_cast<double>(scores.num_moves) / result.num_layers /
                                           static_cast<double>(result.num_windows - warmup) * 100;
  if (!result.level.empty()) {
    const auto levels = std::span(result.level).subspan(first);
    scores.level = LevelScores{.mean = MeanOf(levels),
                               .p95 = Percentile({levels.begin(), levels.end()}, 95),
                               .best_shares_mean = MeanOf(std::span(result.best_level).subspan(first))};
  }
  return scores;
}

double NoiseFloor(uint64_t copies, int num_ranks) {
  EVENKEEL_CHECK(num_ranks > 0);
  if (copies == 0) return 1;
  Rng rng(0);
  const std::vector<double> equal(static_cast<size_t>(num_ranks), 1.0);
  std::vector<uint64_t> counts(equal.size());
  double sum = 0;
  for (int draw = 0; draw < kFloorDraws; ++draw) {
    DrawMultinomial(copies, equal, counts, rng);
    sum += static_cast<double>(*std::max_element(counts.begin(), counts.end()));
  }
  return sum / kFloorDraws / (static_cast<double>(copies) / num_ranks);
}

double NoiseFloor(std::span<const Load> timeline, int num_ranks) {
  double copies = 0, rows = 0;
  for (const Load& load : timeline) {
    for (uint64_t tokens : load.tokens) copies += static_cast<double>(tokens);
    rows += load.num_layers;
  }
  return rows > 0 ? NoiseFloor(static_cast<uint64_t>(copies / rows), num_ranks) : 1;
}

double LeastImbalance(const Shape& shape, std::span<const uint64_t> tokens) {
  struct Candidate {
    double per_replica;
    size_t expert;
    int replicas;
    bool operator<(const Candidate& other) const {
      return per_replica != other.per_replica ? per_replica < other.per_replica : expert > other.expert;
    }
  };
  double total = 0;
  std::priority_queue<Candidate> hottest;
  for (size_t e = 0; e < tokens.size(); ++e) {
    total += static_cast<double>(tokens[e]);
    hottest.push({static_cast<double>(tokens[e]), e, 1});
  }
  if (total <= 0) return 1;
  // Replicas given where they lower the peak: none other does so with fewer.
  for (int spare = shape.num_redundant(); spare > 0; --spare) {
    Candidate top = hottest.top();
    if (top.replicas == shape.num_ranks) break;
    hottest.pop();
    ++top.replicas;
    top.per_replica = static_cast<double>(tokens[top.expert]) / top.replicas;
    hottest.push(top);
  }
  return std::max(1.0, hottest.top().per_replica / (total / shape.num_ranks));
}

absl::StatusOr<PlacementBounds> BestPlacements(std::span<const Load> timeline, const Problem& problem, int warmup) {
  EVENKEEL_CHECK(warmup >= 0 && static_cast<size_t>(warmup) < timeline.size());
  const RankRules rules = RulesOf(problem);
  const bool counts_tokens = CountsTokensAlone(rules);
  Problem tokens_alone = problem;
  tokens_alone.cost = {};
  tokens_alone.capacities.clear();
  SharesSolver solver(SharesOptions{.settle = 1.0});
  double lower = 0, found = 0, found_level = 0;
  for (const Load& load : timeline.subspan(static_cast<size_t>(warmup))) {
    for (int l = 0; l < load.num_layers; ++l) lower += LeastImbalance(problem.shape, load.layer(LayerId(l)));
    EVENKEEL_ASSIGN_OR_RETURN(const double sum, BestOfWindow(tokens_alone, {}, load, solver));
    found += sum;
    if (counts_tokens) continue;
    EVENKEEL_ASSIGN_OR_RETURN(const double sum_of_levels, BestOfWindow(problem, rules, load, solver));
    found_level += sum_of_levels;
  }
  const double rows = static_cast<double>(timeline.size() - static_cast<size_t>(warmup)) * problem.num_layers;
  PlacementBounds bounds{.lower = lower / rows, .found = found / rows};
  if (!counts_tokens) bounds.found_level = found_level / rows;
  return bounds;
}

}  // namespace evenkeel::algos
