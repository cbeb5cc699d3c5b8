// SPDX-License-Identifier: Apache-2.0
//
// Flex on one core: what a controller asks of it for each window, for 58 layers of 256 experts: an increment of the
// placements, with 64 windows of history and settled, and the shares of all layers. On 32 ranks of 9 slots and 64 of 5.
// The reference gets its shares from the general solver, and is otherwise `greedy` planning all layers anew.
//
// flex_bench [LOADS.npy]: windows of recorded loads, taken in turn; else a seeded log-normal that drifts.
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "algos/base/check.h"
#include "algos/flex/flex.h"
#include "algos/policies/greedy.h"
#include "algos/replay/multinomial.h"
#include "algos/shares.h"
#include "tests/bench/bench.h"
#include "tests/bench/planning_input.h"

namespace evenkeel::bench {
namespace {

constexpr int kHistory = 64;
constexpr uint64_t kTokens = 160'000;

// A window of the recorded distribution between two of the input's windows: they drift into one another.
algos::Load WindowAt(const PlanningInput& input, int t, Rng& rng) {
  constexpr int kWindowsEach = 40;
  const size_t at = static_cast<size_t>(t / kWindowsEach);
  const algos::Load& from = input.windows[at % input.windows.size()];
  const algos::Load& to = input.windows[(at + 1) % input.windows.size()];
  const double part = static_cast<double>(t % kWindowsEach) / kWindowsEach;
  algos::Load window = from;
  const size_t num_experts = static_cast<size_t>(from.num_experts);
  std::vector<double> weights(num_experts);
  for (size_t first = 0; first < window.tokens.size(); first += num_experts) {
    for (size_t e = 0; e < num_experts; ++e) {
      weights[e] =
          (1 - part) * static_cast<double>(from.tokens[first + e]) + part * static_cast<double>(to.tokens[first + e]);
    }
    algos::DrawMultinomial(kTokens, weights, std::span(window.tokens).subspan(first, num_experts), rng);
  }
  return window;
}

void Measure(const PlanningInput& input, int num_ranks, int slots_per_rank, double scale) {
  const algos::Load& shape_of = input.windows[0];
  algos::Problem problem{
      .shape = {.num_experts = shape_of.num_experts, .num_ranks = num_ranks, .slots_per_rank = slots_per_rank},
      .num_layers = shape_of.num_layers};
  problem.current.assign(static_cast<size_t>(problem.num_layers), algos::DefaultPlacement(problem.shape));
  algos::Flex flex(problem.shape, problem.num_layers, {.settle_windows = kHistory});
  Rng rng(1);
  int window = 0;
  long num_moves = 0, num_increments = 0;
  const auto observe = [&] {
    problem.episodes = {WindowAt(input, window++, rng)};
    flex.Observe(problem.episodes[0]);
  };
  const auto improve = [&] {
    auto improvements = flex.Improve(problem);
    EVENKEEL_CHECK(improvements.ok());
    ++num_increments;
    for (auto& improvement : *improvements) {
      num_moves += improvement.num_moves;
      problem.current[improvement.layer.idx()] = std::move(improvement.placement);
    }
  };
  while (window < kHistory) {
    observe();
    improve();
  }
  num_moves = num_increments = 0;
  // Windows come between the samples, so that every increment finds a new one.
  std::vector<double> observed, improved, shared, planned, solved;
  algos::SharesSolver solver;
  for (int i = 0; i < 61; ++i) {
    observed.push_back(MicrosecondsOf([&] { observe(); }));
    planned.push_back(MicrosecondsOf([&] { EVENKEEL_CHECK(algos::PlanGreedy(problem).ok()); }));
    improved.push_back(MicrosecondsOf(improve));
    shared.push_back(MicrosecondsOf([&] {
      for (int layer = 0; layer < problem.num_layers; ++layer) {
        flex.SharesFor(problem, LayerId(layer), problem.current[static_cast<size_t>(layer)]);
      }
    }));
    solved.push_back(MicrosecondsOf([&] {
      for (int layer = 0; layer < problem.num_layers; ++layer) {
        const auto replicas = Invert(problem.current[static_cast<size_t>(layer)], problem.shape.num_experts);
        solver.Solve(problem.shape, replicas, problem.episodes[0].layer(LayerId(layer)));
      }
    }));
  }
  std::printf("input      %s\nbatch      %d layers of %d experts on %d ranks of %d slots; %d samples, settled\n",
              input.name.c_str(), problem.num_layers, problem.shape.num_experts, num_ranks, slots_per_rank,
              static_cast<int>(improved.size()));
  const auto print = [](const char* name, std::vector<double> samples, double goal) {
    const Timing timing = Summarise(std::move(samples));
    std::printf("%-10s median %.1f us, p99 %.1f us of CPU time", name, timing.median_us, timing.p99_us);
    if (goal > 0) std::printf(" (goal %.0f us)", goal);
    std::printf("\n");
    return timing.median_us;
  };
  const double increment = print("increment", improved, 20'000 * scale);
  const double shares = print("shares", shared, 3'000 * scale);
  print("observe", observed, 0);
  std::printf("           (drawing the window included)\n");
  std::printf("moves      %.2f a layer in 100 windows\n",
              100.0 * static_cast<double>(num_moves) / problem.num_layers / static_cast<double>(num_increments));
  std::printf("ratio      increment %.2f times as fast as greedy anew; shares %.2f times as fast as shares.h\n\n",
              Summarise(planned).median_us / increment, Summarise(solved).median_us / shares);
}

}  // namespace
}  // namespace evenkeel::bench

int main(int argc, char** argv) {
  const auto input = evenkeel::bench::PlanningInputOf(argc, argv);
  evenkeel::bench::Measure(input, 32, 9, 1);
  evenkeel::bench::Measure(input, 64, 5, 1.5);
}
