// SPDX-License-Identifier: Apache-2.0
//
// Placements for 58 layers of 256 experts in 288 slots on 32 ranks, flat, by each policy that plans layers apart:
// from nothing, and, those that look at it, against what they planned on the window before. Then `deepseek` and
// `vllm` on 64 ranks of 5 slots and 320 of one. The reference writes DeepSeek's algorithm down plainly: stable sorts
// and scans.
//
// policies_bench [--traces DIR]: DeepSeek-V3's recorded loads under DIR (default: $EVENKEEL_TRACES, else
// ../shared/traces) where they are there; else a seeded log-normal.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "algos/imbalance.h"
#include "algos/policies/greedy.h"
#include "algos/policies/peers/deepseek.h"
#include "algos/policies/peers/deepseek_vec.h"
#include "algos/policies/peers/default_eplb.h"
#include "algos/policies/peers/elasticity_aware.h"
#include "algos/policies/peers/swift.h"
#include "algos/policies/peers/trtllm.h"
#include "algos/policies/peers/vllm.h"
#include "cli/files/loads.h"
#include "cli/files/npy.h"
#include "tests/algos/planning_reference.h"
#include "tests/bench/bench.h"
#include "tests/bench/planning_input.h"

namespace evenkeel::bench {
namespace {

constexpr char kCounts[] = "/deepseek_v3_r1_sglang_ep_stats/counts.npy";

PlanningInput InputOf(int argc, char** argv) {
  const char* named = std::getenv("EVENKEEL_TRACES");
  std::vector<std::string> folders = {"../shared/traces"};
  // Where `bazel run` was called from.
  if (const char* root = std::getenv("BUILD_WORKSPACE_DIRECTORY")) folders = {std::string(root) + "/../shared/traces"};
  if (named != nullptr) folders = {named};
  const bool asked = argc == 3 && std::strcmp(argv[1], "--traces") == 0;
  if (asked) folders = {argv[2]};
  const auto array = cli::ReadNpy(folders[0] + kCounts);
  if (array.ok()) {
    const auto loads = cli::LoadsOf(*array);
    if (loads.ok() && loads->size() >= 2) return {folders[0] + kCounts, *loads};
  }
  if (asked || named != nullptr) {
    std::fprintf(stderr, "%s\n", array.status().ToString().c_str());
    std::exit(2);
  }
  return PlanningInputOf(1, argv);
}

// A problem for every window.
std::vector<algos::Problem> ProblemsOf(const PlanningInput& input, int num_ranks, int slots_per_rank) {
  std::vector<algos::Problem> problems;
  for (const algos::Load& window : input.windows) {
    algos::Problem& problem = problems.emplace_back();
    problem.shape = {.num_experts = window.num_experts, .num_ranks = num_ranks, .slots_per_rank = slots_per_rank};
    problem.num_layers = window.num_layers;
    problem.episodes = {window};
  }
  return problems;
}

std::vector<algos::Placement> PlanPlainly(const algos::Problem& problem) {
  std::vector<algos::Placement> placements;
  for (int layer = 0; layer < problem.num_layers; ++layer) {
    const auto tokens = problem.episodes[0].layer(LayerId(layer));
    const auto planned =
        testing::ReferenceRebalance({tokens.begin(), tokens.end()},
                                    {.num_replicas = problem.shape.num_slots(), .num_gpus = problem.shape.num_ranks});
    algos::Placement& placement = placements.emplace_back();
    for (int32_t expert : planned.expert) placement.expert_of_slot.push_back(ExpertId(expert));
  }
  return placements;
}

using PlanFunction = absl::StatusOr<std::vector<algos::Placement>> (*)(const algos::Problem&);

// Slots whose rank did not hold their expert, of all.
double MovedPart(const algos::Problem& problem, const std::vector<algos::Placement>& planned) {
  size_t moved = 0, slots = 0;
  for (size_t layer = 0; layer < planned.size(); ++layer) {
    const auto& before = problem.current[layer].expert_of_slot;
    for (size_t slot = 0; slot < before.size(); ++slot, ++slots) {
      const size_t room = static_cast<size_t>(problem.shape.slots_per_rank);
      const auto first = before.begin() + static_cast<std::ptrdiff_t>(slot / room * room);
      const auto end = first + static_cast<std::ptrdiff_t>(room);
      moved += std::find(first, end, planned[layer].expert_of_slot[slot]) == end ? 1 : 0;
    }
  }
  return static_cast<double>(moved) / static_cast<double>(slots);
}

void Measure(const std::string& name, const PlanningInput& input, const std::vector<algos::Problem>& problems,
             PlanFunction plan, double goal_us) {
  double in_sample = 0, next = 0, moved = 0;
  for (size_t i = 0; i + 1 < problems.size(); ++i) {
    const auto placements = *plan(problems[i]);
    in_sample += algos::ImbalanceOf(placements, problems[i].shape, input.windows[i]).mean;
    next += algos::ImbalanceOf(placements, problems[i].shape, input.windows[i + 1]).mean;
    if (!problems[i].current.empty()) moved += MovedPart(problems[i], placements);
  }
  const double count = static_cast<double>(problems.size() - 1);
  std::printf("== %s\nimbalance  %.4f on the window planned on, %.4f on the next one", name.c_str(), in_sample / count,
              next / count);
  if (!problems[0].current.empty()) std::printf("; %.0f %% of slots need a move", 100 * moved / count);
  std::printf("\n");
  size_t mine = 0, theirs = 0;
  const auto& shape = problems[0].shape;
  Compare(
      {.input = input.name,
       .batch = "one plan: " + std::to_string(problems[0].num_layers) + " layers x " +
                std::to_string(shape.num_experts) + " experts, " + std::to_string(shape.num_slots()) + " slots on " +
                std::to_string(shape.num_ranks) + " ranks, flat; window after window",
       .num_samples = 501,
       .reference_every = 10,
       .goal_us = goal_us},
      [&] {
        if (!plan(problems[mine++ % problems.size()]).ok()) std::abort();
      },
      "the algorithm of deepseek, plainly",
      [&] {
        if (PlanPlainly(problems[theirs++ % problems.size()]).empty()) std::abort();
      });
}

// Each window against what was planned on the one before; the first against the default placement.
std::vector<algos::Problem> Chained(std::vector<algos::Problem> problems, PlanFunction plan) {
  problems[0].current.assign(static_cast<size_t>(problems[0].num_layers), algos::DefaultPlacement(problems[0].shape));
  for (size_t i = 1; i < problems.size(); ++i) problems[i].current = *plan(problems[i - 1]);
  return problems;
}

int Run(int argc, char** argv) {
  const PlanningInput input = InputOf(argc, argv);
  const std::vector<algos::Problem> problems = ProblemsOf(input, 32, 9);
  if (!algos::Validate(problems[0]).ok()) {
    std::fprintf(stderr, "%s\n", algos::Validate(problems[0]).ToString().c_str());
    return 2;
  }
  Measure("deepseek", input, problems, algos::PlanDeepseek, 1000);
  Measure("vllm", input, problems, algos::PlanVllm, 2000);
  Measure("trtllm", input, problems, algos::PlanTrtllm, 0);
  Measure("elasticity_aware", input, problems, algos::PlanElasticityAware, 0);
  Measure("deepseek_vec", input, problems, algos::PlanDeepseekVec, 0);
  Measure("default_eplb", input, problems, algos::PlanDefaultEplb, 0);
  Measure("greedy, from nothing", input, problems, algos::PlanGreedy, 1000);
  Measure("vllm, against the plan of the window before", input, Chained(problems, algos::PlanVllm), algos::PlanVllm,
          2000);
  Measure("greedy, against the plan of the window before", input, Chained(problems, algos::PlanGreedy),
          algos::PlanGreedy, 0);
  Measure("swift_balancer, against the plan of the window before", input, Chained(problems, algos::PlanSwiftBalancer),
          algos::PlanSwiftBalancer, 0);
  Measure("swift, against the plan of the window before", input, Chained(problems, algos::PlanSwift), algos::PlanSwift,
          0);
  Measure("deepseek on 64 x 5", input, ProblemsOf(input, 64, 5), algos::PlanDeepseek, 1500);
  Measure("vllm on 64 x 5", input, ProblemsOf(input, 64, 5), algos::PlanVllm, 3000);
  Measure("deepseek on 320 x 1", input, ProblemsOf(input, 320, 1), algos::PlanDeepseek, 0);
  Measure("vllm on 320 x 1", input, ProblemsOf(input, 320, 1), algos::PlanVllm, 0);
  return 0;
}

}  // namespace
}  // namespace evenkeel::bench

int main(int argc, char** argv) { return evenkeel::bench::Run(argc, argv); }
