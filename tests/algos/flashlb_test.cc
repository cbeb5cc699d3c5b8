// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/flashlb/flashlb.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <string>

#include "algos/base/rng.h"
#include "algos/imbalance.h"
#include "algos/moves.h"
#include "algos/policies/peers/flashlb/tree_search.h"
#include "tests/algos/planning_reference.h"
#include "tests/golden/golden.h"

namespace evenkeel::algos {
namespace {

using flashlb::Allotment;
using flashlb::AllotmentMethod;
using flashlb::HeatReader;
using flashlb::LayerHeat;
using flashlb::RiskPacker;
using flashlb::TreeSearch;

// One layer, one load a step.
Problem OneLayer(const Shape& shape, const std::vector<std::vector<uint64_t>>& steps) {
  Problem problem{.shape = shape, .num_layers = 1};
  for (const auto& tokens : steps) {
    problem.episodes.push_back({.num_layers = 1, .num_experts = shape.num_experts, .tokens = tokens});
  }
  return problem;
}

Problem RandomProblem(const Shape& shape, int num_layers, int num_steps, Rng& rng) {
  Problem problem{.shape = shape, .num_layers = num_layers};
  const Load base = testing::LogNormalLoad(num_layers, shape.num_experts, 1.0, rng);
  for (int step = 0; step < num_steps; ++step) {
    problem.episodes.push_back(base);
    for (uint64_t& tokens : problem.episodes.back().tokens) {
      tokens = static_cast<uint64_t>(static_cast<double>(tokens) * std::exp(0.4 * rng.Normal()));
    }
  }
  return problem;
}

// The score of header risk_packer.h, plainly.
double ReferenceScore(const Problem& problem, const Placement& placement) {
  double score = 0;
  for (const Load& step : problem.episodes) {
    std::vector<uint64_t> heat = step.tokens;
    double total = 0;
    for (uint64_t& tokens : heat) total += static_cast<double>(++tokens);
    const std::vector<double> loads = EvenRankLoads(placement, problem.shape, heat);
    score += (*std::ranges::max_element(loads) * problem.shape.num_ranks + 0.01) / (total + 0.01);
  }
  return score / static_cast<double>(problem.episodes.size());
}

std::vector<std::vector<int>> ExpertsOfRanks(const Placement& placement, const Shape& shape) {
  std::vector<std::vector<int>> experts(static_cast<size_t>(shape.num_ranks));
  for (int s = 0; s < shape.num_slots(); ++s) {
    experts[shape.RankOf(SlotIdx(s)).idx()].push_back(placement.expert_of_slot[static_cast<size_t>(s)].value());
  }
  for (auto& rank : experts) std::ranges::sort(rank);
  std::ranges::sort(experts);
  return experts;
}

TEST_CASE("flashlb finds what the published algorithm does", "[flashlb]") {
  const testing::Golden golden("flashlb.txt");
  for (int i = 0; i < golden.number("cases"); ++i) {
    CAPTURE(i);
    const auto of_case = [i](const char* word) { return word + std::string("_") + std::to_string(i); };
    const std::vector<int64_t>& sizes = golden.rows(of_case("shape"))[0];
    const auto at = [&](size_t k) { return static_cast<int>(sizes[k]); };
    const Shape shape{.num_experts = at(0), .num_ranks = at(1), .slots_per_rank = at(2)};
    std::vector<std::vector<uint64_t>> steps;
    for (const auto& row : golden.rows(of_case("step"))) steps.emplace_back(row.begin(), row.end());
    const Problem problem = OneLayer(shape, steps);
    HeatReader reader(problem, 64);
    LayerHeat heat;
    reader.Read(LayerId(0), heat);
    TreeSearch search(shape, {.depth = at(3), .width = at(4), .allotment = static_cast<AllotmentMethod>(at(5))});
    const flashlb::TreeResult found = search.Run(heat);
    CHECK(found.counts == golden.flat<int32_t>(of_case("counts")));
    CHECK(found.score == Approx(static_cast<double>(golden.rows(of_case("score"))[0][0]) * 1e-9).epsilon(1e-6));
    std::vector<std::vector<int64_t>> contents;
    for (const auto& rank : found.contents) {
      contents.emplace_back();
      for (ExpertId expert : rank) contents.back().push_back(expert.value());
    }
    CHECK(contents == golden.rows(of_case("rank")));
  }
}

TEST_CASE("eight experts in sixteen slots come to 200 at most where greedy packing comes to 232", "[flashlb]") {
  const Problem problem =
      OneLayer({.num_experts = 8, .num_ranks = 8, .slots_per_rank = 2}, {{600, 560, 120, 120, 20, 10, 10, 10}});
  const auto largest = [&](const absl::btree_map<std::string, double>& options) {
    const auto plans = FlashlbPolicy(problem, {.options = options});
    const auto loads = EvenRankLoads((*plans)[0].placement, problem.shape, problem.episodes[0].tokens);
    return *std::ranges::max_element(loads);
  };
  CHECK(largest({{"depth", 1}}) == Approx(232));
  CHECK(largest({{"depth", 2}}) == Approx(205));
  CHECK(largest({{"depth", 3}}) == Approx(590 / 3.0));
  CHECK(largest({}) == Approx(200));
}

TEST_CASE("experts that are hot at the same time are kept apart, others may meet", "[flashlb]") {
  // Four experts of one mean on two ranks: 0 and 1 swing, the others do not.
  const Shape shape{.num_experts = 4, .num_ranks = 2, .slots_per_rank = 2};
  std::vector<std::vector<uint64_t>> in_phase, opposite;
  for (int step = 0; step < 16; ++step) {
    const uint64_t up = step % 2 == 0 ? 1500 : 500, down = 2000 - up;
    in_phase.push_back({up, up, 999, 1001});
    opposite.push_back({up, down, 999, 1001});
  }
  const auto together = [&](const std::vector<std::vector<uint64_t>>& steps) {
    const auto plans = FlashlbPolicy(OneLayer(shape, steps), {});
    const auto experts = ExpertsOfRanks((*plans)[0].placement, shape);
    return experts[0] == std::vector<int>{0, 1} || experts[1] == std::vector<int>{0, 1};
  };
  CHECK_FALSE(together(in_phase));
  CHECK(together(opposite));
}

TEST_CASE("the bounds leave out no rank that a full comparison would take", "[flashlb]") {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    const Shape shape{.num_experts = 24, .num_ranks = 3 + static_cast<int>(rng.Below(8)), .slots_per_rank = 8};
    const Problem problem = RandomProblem(shape, 1, 2 + static_cast<int>(rng.Below(30)), rng);
    HeatReader reader(problem, 64);
    LayerHeat heat;
    reader.Read(LayerId(0), heat);
    std::vector<double> values(heat.mean);
    const Allotment allotment(AllotmentMethod::kMinMax, values, shape.num_redundant());
    std::vector<int32_t> counts(24);
    allotment.Write(shape.num_redundant(), counts);
    RiskPacker packer(shape, 0.7);
    packer.Begin(heat);
    packer.Pack(counts);
    // Plainly: all ranks compared, covariances from the heat itself.
    std::vector<size_t> order(24);
    for (size_t e = 0; e < 24; ++e) order[e] = e;
    std::ranges::stable_sort(order,
                             [&](size_t a, size_t b) { return heat.mean[a] / counts[a] > heat.mean[b] / counts[b]; });
    std::vector<std::vector<ExpertId>> contents(static_cast<size_t>(shape.num_ranks));
    const auto risk_with = [&](const std::vector<ExpertId>& experts, size_t expert) {
      std::vector<double> sums(heat.num_episodes, 0.0);
      double mean = heat.mean[expert] / counts[expert], squares = 0;
      const auto add = [&](size_t e) {
        for (size_t t = 0; t < sums.size(); ++t) {
          sums[t] += (static_cast<double>(heat.heat_of(e)[t]) - heat.mean[e]) / counts[e];
        }
      };
      for (ExpertId e : experts) {
        add(e.idx());
        mean += heat.mean[e.idx()] / counts[e.idx()];
      }
      add(expert);
      for (double sum : sums) squares += sum * sum;
      return mean + 0.7 * std::sqrt(squares / static_cast<double>(sums.size() - 1));
    };
    for (size_t expert : order) {
      for (int32_t replica = 0; replica < counts[expert]; ++replica) {
        const ExpertId id(static_cast<int32_t>(expert));
        size_t best = contents.size();
        double least = std::numeric_limits<double>::infinity();
        for (int apart = 1; apart >= 0 && best == contents.size(); --apart) {
          for (size_t rank = 0; rank < contents.size(); ++rank) {
            if (contents[rank].size() == 8) continue;
            if (apart == 1 && std::ranges::find(contents[rank], id) != contents[rank].end()) continue;
            const double risk = risk_with(contents[rank], expert);
            if (risk < least * (1 - 1e-7)) {
              least = risk;
              best = rank;
            }
          }
        }
        contents[best].push_back(id);
      }
    }
    CHECK(packer.contents() == contents);
  }
}

TEST_CASE("the score is the mean imbalance over episodes", "[flashlb]") {
  Rng rng(5);
  const Problem problem = RandomProblem({.num_experts = 13, .num_ranks = 5, .slots_per_rank = 4}, 1, 21, rng);
  HeatReader reader(problem, 64);
  LayerHeat heat;
  reader.Read(LayerId(0), heat);
  TreeSearch search(problem.shape, {});
  const flashlb::TreeResult found = search.Run(heat);
  Placement placement;
  for (const auto& rank : found.contents) {
    placement.expert_of_slot.insert(placement.expert_of_slot.end(), rank.begin(), rank.end());
  }
  CHECK(found.score == Approx(ReferenceScore(problem, placement)).epsilon(1e-5));
}

TEST_CASE("steps are summed to equal episodes from the newest on", "[flashlb]") {
  std::vector<std::vector<uint64_t>> steps;
  for (uint64_t step = 0; step < 11; ++step) steps.push_back({step, 100 * step});
  const Problem problem = OneLayer({.num_experts = 2, .num_ranks = 2, .slots_per_rank = 1}, steps);
  HeatReader reader(problem, 3);
  LayerHeat heat;
  reader.Read(LayerId(0), heat);
  REQUIRE(heat.num_episodes == 3);
  CHECK_FALSE(reader.is_one_to_one());
  // Steps 2-4, 5-7, 8-10, each a token more.
  CHECK(heat.heat_of(0)[0] == 12);
  CHECK(heat.heat_of(0)[2] == 30);
  CHECK(heat.mean[1] == Approx(1803));
  CHECK(heat.variance[1] == Approx(900.0 * 900));
  CHECK(heat.covariance[1] == Approx(9.0 * 900));
  CHECK(heat.covariance[heat.experts_stride] == Approx(9.0 * 900));
  CHECK(heat.total[1] == Approx(21 + 1803));
}

TEST_CASE("a share of two groups is what one allotment of both gives", "[flashlb]") {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    for (AllotmentMethod method :
         {AllotmentMethod::kMinMax, AllotmentMethod::kMaxDelta, AllotmentMethod::kPercentage}) {
      std::vector<double> all, first, rest;
      for (int i = 0; i < 12; ++i) all.push_back(static_cast<double>(1 + rng.Below(50)));
      first.assign(all.begin(), all.begin() + 4);
      rest.assign(all.begin() + 4, all.end());
      const Allotment whole(method, all, 20), head(method, first, 20), tail(method, rest, 20);
      for (int extra = 0; extra <= 20; ++extra) {
        std::vector<int32_t> counts(12);
        whole.Write(extra, counts);
        int share = 0, sum = 0;
        for (size_t i = 0; i < 12; ++i) {
          share += i < 4 ? counts[i] - 1 : 0;
          sum += counts[i];
        }
        CHECK(sum == 12 + extra);
        CHECK(head.ShareOf(extra, tail) == share);
      }
    }
  }
}

TEST_CASE("layers that gain most are picked, others keep what they have", "[flashlb]") {
  Rng rng(9);
  Problem problem = RandomProblem({.num_experts = 16, .num_ranks = 4, .slots_per_rank = 5}, 6, 20, rng);
  problem.current.assign(6, DefaultPlacement(problem.shape));
  const auto changed = [&](const absl::btree_map<std::string, double>& options) {
    const auto plans = *FlashlbPolicy(problem, {.options = options});
    std::vector<size_t> layers;
    for (size_t layer = 0; layer < 6; ++layer) {
      if (plans[layer].placement != problem.current[layer]) layers.push_back(layer);
    }
    return layers;
  };
  const auto gain = [&](size_t layer, const Placement& planned) {
    Problem one = problem;
    one.num_layers = 1;
    for (size_t i = 0; i < one.episodes.size(); ++i) {
      const auto tokens = problem.episodes[i].layer(LayerId(static_cast<int>(layer)));
      one.episodes[i] = {.num_layers = 1, .num_experts = 16, .tokens = {tokens.begin(), tokens.end()}};
    }
    return 1 / ReferenceScore(one, planned) - 1 / ReferenceScore(one, problem.current[layer]);
  };
  const auto plans = *FlashlbPolicy(problem, {});
  CHECK(changed({}).size() == 6);
  const std::vector<size_t> two = changed({{"update_layers_upper_bound", 2}});
  REQUIRE(two.size() == 2);
  for (size_t layer = 0; layer < 6; ++layer) {
    if (std::ranges::find(two, layer) != two.end()) continue;
    for (size_t taken : two) CHECK(gain(layer, plans[layer].placement) <= gain(taken, plans[taken].placement));
  }
  // Planned on the same steps again, there is nothing to gain.
  problem.current = PlacementsOf(plans);
  CHECK(changed({}).empty());
}

TEST_CASE("layers that are balanced enough are not planned, those that lack an expert always", "[flashlb]") {
  Rng rng(10);
  Problem problem = RandomProblem({.num_experts = 16, .num_ranks = 4, .slots_per_rank = 5}, 2, 20, rng);
  problem.current.assign(2, DefaultPlacement(problem.shape));
  const auto never =
      *FlashlbPolicy(problem, {.options = {{"last_average_to_peak", 0.1}, {"update_threshold_value", 0.01}}});
  CHECK(PlacementsOf(never) == problem.current);
  const auto below = *FlashlbPolicy(problem, {.options = {{"last_average_to_peak", 0.1}}});
  CHECK(PlacementsOf(below) != problem.current);
  for (ExpertId& expert : problem.current[1].expert_of_slot) {
    if (expert == ExpertId(3)) expert = ExpertId(4);
  }
  const auto forced =
      *FlashlbPolicy(problem, {.options = {{"last_average_to_peak", 0.1}, {"update_threshold_value", 0.01}}});
  CHECK(forced[0].placement == problem.current[0]);
  CHECK(Validate(forced[1].placement, problem.shape).ok());
}

TEST_CASE("a plan goes where most of it is; incrementally fewer experts move still", "[flashlb]") {
  Rng rng(11);
  Problem problem = RandomProblem({.num_experts = 32, .num_ranks = 8, .slots_per_rank = 5}, 4, 20, rng);
  const auto first = *FlashlbPolicy(problem, {});
  problem.current = PlacementsOf(first);
  for (Load& step : problem.episodes) {
    for (uint64_t& tokens : step.tokens) {
      tokens = static_cast<uint64_t>(static_cast<double>(tokens) * std::exp(0.15 * rng.Normal()));
    }
  }
  for (size_t i = 0; i < 8; ++i) {
    for (Load& step : problem.episodes) step.tokens[i] *= 3;
  }
  const auto moves = [&](const std::vector<LayerPlan>& plans) {
    int sum = 0;
    for (size_t layer = 0; layer < 4; ++layer) {
      CHECK(Validate(plans[layer].placement, problem.shape).ok());
      sum += CountMoves(problem.shape, problem.current[layer], plans[layer].placement);
    }
    return sum;
  };
  const auto whole = *FlashlbPolicy(problem, {});
  const auto part = *FlashlbPolicy(problem, {.options = {{"lpt_incremental", 1}, {"incremental_hottest", 4}}});
  CHECK(moves(part) > 0);
  CHECK(moves(part) < moves(whole));
}

}  // namespace
}  // namespace evenkeel::algos
