// SPDX-License-Identifier: Apache-2.0
//
// Placements by `flashlb` out of 64 episodes, for 58 layers of 256 experts, in 288 slots on 32 ranks and in 320 on
// 64; one core, all layers. The reference is the same search written plainly: every placement compares all ranks,
// with covariances looked up expert by expert, and is scored by adding up its slots. It reads episodes and their
// covariances with our code.
//
// flashlb_bench [FILE]: counts.npy of a trace, [windows, layers, experts], its windows repeated where there are
// fewer; else a seeded log-normal that drifts.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "algos/imbalance.h"
#include "algos/policies/peers/flashlb/flashlb.h"
#include "algos/policies/peers/flashlb/layer_heat.h"
#include "tests/bench/bench.h"
#include "tests/bench/planning_input.h"

namespace evenkeel::bench {
namespace {

constexpr int kEpisodes = 64;
constexpr double kZ = 0.6744897501960817;

// One placement of all replicas and its score, as the description has it.
double PlaceAndScorePlainly(const algos::flashlb::LayerHeat& heat, const std::vector<int32_t>& counts, size_t num_ranks,
                            size_t slots_per_rank) {
  std::vector<size_t> order(heat.num_experts);
  std::iota(order.begin(), order.end(), size_t{0});
  const auto unit = [&](size_t e) { return heat.mean[e] / counts[e]; };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return unit(a) > unit(b); });
  std::vector<std::vector<size_t>> held(num_ranks);
  std::vector<double> means(num_ranks, 0.0), variances(num_ranks, 0.0);
  for (size_t e : order) {
    for (int32_t replica = 0; replica < counts[e]; ++replica) {
      size_t best = num_ranks;
      double least = std::numeric_limits<double>::infinity(), its_variance = 0;
      for (size_t d = 0; d < num_ranks; ++d) {
        if (held[d].size() == slots_per_rank || std::find(held[d].begin(), held[d].end(), e) != held[d].end()) continue;
        double variance = variances[d] + heat.variance[e] / counts[e] / counts[e];
        for (size_t j : held[d]) {
          variance += 2 * static_cast<double>(heat.covariance[e * heat.experts_stride + j]) / counts[e] / counts[j];
        }
        const double risk = means[d] + unit(e) + kZ * std::sqrt(std::max(variance, 0.0));
        if (risk >= least) continue;
        least = risk;
        best = d;
        its_variance = variance;
      }
      if (best == num_ranks) return std::numeric_limits<double>::infinity();
      held[best].push_back(e);
      means[best] += unit(e);
      variances[best] = its_variance;
    }
  }
  double score = 0;
  for (size_t t = 0; t < heat.num_episodes; ++t) {
    double most = 0;
    for (const auto& experts : held) {
      double sum = 0;
      for (size_t e : experts) sum += static_cast<double>(heat.heat_of(e)[t]) / counts[e];
      most = std::max(most, sum);
    }
    score += most * static_cast<double>(num_ranks) / heat.total[t];
  }
  return score / static_cast<double>(heat.num_episodes);
}

std::vector<int32_t> AllotPlainly(const std::vector<double>& values, const std::vector<size_t>& experts, int extra) {
  std::vector<int32_t> counts(experts.size(), 1);
  for (; extra > 0; --extra) {
    size_t best = 0;
    for (size_t i = 1; i < experts.size(); ++i) {
      if (values[experts[i]] / counts[i] > values[experts[best]] / counts[best]) best = i;
    }
    ++counts[best];
  }
  return counts;
}

double SearchPlainly(const algos::flashlb::LayerHeat& heat, size_t num_ranks, size_t slots_per_rank) {
  const size_t num_experts = heat.num_experts, group_size = (num_experts + 3) / 4;
  std::vector<double> values(num_experts);
  for (size_t e = 0; e < num_experts; ++e) values[e] = heat.mean[e] + kZ * heat.deviation[e];
  std::vector<size_t> order(num_experts);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] > values[b]; });
  std::vector<int32_t> counts(num_experts, 1);
  int extra = static_cast<int>(num_ranks * slots_per_rank - num_experts);
  double last = 0;
  for (size_t level = 0; level < 3 && extra > 0; ++level) {
    const auto begin = order.begin() + static_cast<std::ptrdiff_t>(level * group_size);
    const auto middle = begin + static_cast<std::ptrdiff_t>(group_size);
    const std::vector<size_t> both(begin, order.end()), group(begin, middle), rest(middle, order.end());
    const std::vector<int32_t> together = AllotPlainly(values, both, extra);
    const int plain = std::accumulate(together.begin(), together.begin() + static_cast<std::ptrdiff_t>(group_size), 0) -
                      static_cast<int>(group_size);
    const auto write = [&](int share) {
      const std::vector<int32_t> mine = AllotPlainly(values, group, share),
                                 theirs = AllotPlainly(values, rest, extra - share);
      for (size_t i = 0; i < group.size(); ++i) counts[group[i]] = mine[i];
      for (size_t i = 0; i < rest.size(); ++i) counts[rest[i]] = theirs[i];
    };
    int best = plain;
    double least = std::numeric_limits<double>::infinity();
    for (int step = 0; step <= 8; ++step) {
      for (int share : {plain - step, plain + step}) {
        if (share < 0 || share > extra || (step == 0 && least < 1e30)) continue;
        write(share);
        const double score = PlaceAndScorePlainly(heat, counts, num_ranks, slots_per_rank);
        if (score >= least) continue;
        least = score;
        best = share;
      }
    }
    write(best);
    extra -= best;
    last = least;
  }
  return last;
}

void Measure(const std::string& name, const std::vector<algos::Load>& episodes, int ranks, int slots_per_rank,
             double goal_us) {
  algos::Problem problem{
      .shape = {.num_experts = episodes[0].num_experts, .num_ranks = ranks, .slots_per_rank = slots_per_rank},
      .num_layers = episodes[0].num_layers};
  problem.episodes = episodes;
  if (!algos::Validate(problem).ok()) std::abort();
  const auto plans = algos::FlashlbPolicy(problem, {});
  double imbalance = 0;
  for (const algos::Load& episode : episodes) {
    imbalance += algos::ImbalanceOf(algos::PlacementsOf(*plans), problem.shape, episode).mean /
                 static_cast<double>(episodes.size());
  }
  std::printf("== %d ranks x %d slots\nimbalance  %.4f, mean over the episodes\n", ranks, slots_per_rank, imbalance);
  algos::flashlb::HeatReader reader(problem, kEpisodes);
  algos::flashlb::LayerHeat heat;
  Compare(
      {.input = name,
       .batch = "one plan: " + std::to_string(problem.num_layers) + " layers x " +
                std::to_string(problem.shape.num_experts) + " experts, " + std::to_string(kEpisodes) + " episodes",
       .num_samples = 31,
       .reference_every = 10,
       .goal_us = goal_us},
      [&] {
        if (!algos::FlashlbPolicy(problem, {}).ok()) std::abort();
      },
      "the same search, plainly",
      [&] {
        for (int layer = 0; layer < problem.num_layers; ++layer) {
          reader.Read(LayerId(layer), heat);
          if (problem.shape.num_redundant() > 0 &&
              SearchPlainly(heat, static_cast<size_t>(ranks), static_cast<size_t>(slots_per_rank)) < 1) {
            std::abort();
          }
        }
      });
}

int Run(int argc, char** argv) {
  const PlanningInput input = PlanningInputOf(argc, argv);
  std::vector<algos::Load> episodes;
  Rng rng(2);
  while (episodes.size() < kEpisodes) {
    episodes.push_back(input.windows[episodes.size() % input.windows.size()]);
    // An episode is a sample of its window.
    for (uint64_t& tokens : episodes.back().tokens) {
      const double mean = static_cast<double>(tokens) / 16;
      tokens = static_cast<uint64_t>(std::max(0.0, mean + std::sqrt(mean) * rng.Normal()));
    }
  }
  Measure(input.name, episodes, 32, 9, 50'000);
  Measure(input.name, episodes, 64, 5, 75'000);
  return 0;
}

}  // namespace
}  // namespace evenkeel::bench

int main(int argc, char** argv) { return evenkeel::bench::Run(argc, argv); }
