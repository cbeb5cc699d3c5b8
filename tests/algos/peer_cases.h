// SPDX-License-Identifier: Apache-2.0
//
// Peer cases: what every published policy is tested with: golden vectors (tests/golden/peer_policies.py), and the
// properties that all of them have.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "algos/base/rng.h"
#include "algos/placement.h"
#include "algos/problem.h"
#include "tests/algos/planning_reference.h"
#include "tests/golden/golden.h"

namespace evenkeel::testing {

using PlanFunction = absl::StatusOr<std::vector<algos::Placement>> (*)(const algos::Problem&);

struct PeerCase {
  algos::Problem problem;  // of one layer
  algos::Placement planned;
};

inline algos::Placement PlacementOf(const std::vector<int64_t>& experts) {
  algos::Placement placement;
  for (int64_t expert : experts) placement.expert_of_slot.push_back(ExpertId(static_cast<int32_t>(expert)));
  return placement;
}

inline std::vector<PeerCase> ReadPeerCases(const std::string& file) {
  const Golden golden(file);
  std::vector<PeerCase> cases;
  for (size_t i = 0; i < golden.rows("case").size(); ++i) {
    const auto& row = golden.rows("case")[i];
    const auto& tokens = golden.rows("tokens")[i];
    algos::Problem problem{.shape = {.num_experts = static_cast<int>(row.at(0)),
                                     .num_ranks = static_cast<int>(row.at(1)),
                                     .slots_per_rank = static_cast<int>(row.at(2))},
                           .num_layers = 1,
                           .num_nodes = static_cast<int>(row.at(3)),
                           .num_expert_groups = static_cast<int>(row.at(4))};
    for (size_t first = 0; first < tokens.size(); first += static_cast<size_t>(row.at(0))) {
      algos::Load& episode = problem.episodes.emplace_back();
      episode = {.num_layers = 1, .num_experts = problem.shape.num_experts};
      for (int64_t e = 0; e < row.at(0); ++e) {
        episode.tokens.push_back(static_cast<uint64_t>(tokens.at(first + static_cast<size_t>(e))));
      }
    }
    REQUIRE(problem.episodes.size() == static_cast<size_t>(row.at(5)));
    if (!golden.rows("current")[i].empty()) problem.current = {PlacementOf(golden.rows("current")[i])};
    if (!golden.rows("dead")[i].empty()) problem.dead_ranks.resize(static_cast<size_t>(row.at(1)));
    for (int64_t rank : golden.rows("dead")[i]) problem.dead_ranks.at(static_cast<size_t>(rank)) = true;
    cases.push_back({problem, PlacementOf(golden.rows("planned")[i])});
  }
  return cases;
}

inline void CheckGolden(const std::string& file, PlanFunction plan) {
  const std::vector<PeerCase> cases = ReadPeerCases(file);
  REQUIRE(cases.size() >= 40);
  for (size_t i = 0; i < cases.size(); ++i) {
    CAPTURE(file, i);
    const auto placements = plan(cases[i].problem);
    REQUIRE(placements.ok());
    REQUIRE(placements->front() == cases[i].planned);
  }
}

// The largest rank load where tokens are split evenly.
inline double LargestLoad(const algos::Placement& placement, const algos::Shape& shape,
                          std::span<const uint64_t> tokens) {
  std::vector<double> counts(tokens.size(), 0), loads(static_cast<size_t>(shape.num_ranks), 0);
  for (ExpertId expert : placement.expert_of_slot) {
    if (expert != kNoExpert) ++counts[expert.idx()];
  }
  for (size_t slot = 0; slot < placement.expert_of_slot.size(); ++slot) {
    const ExpertId expert = placement.expert_of_slot[slot];
    if (expert == kNoExpert) continue;
    loads[slot / static_cast<size_t>(shape.slots_per_rank)] +=
        static_cast<double>(tokens[expert.idx()]) / counts[expert.idx()];
  }
  return *std::max_element(loads.begin(), loads.end());
}

// Eight experts on eight ranks of two slots.
inline algos::Problem EightExperts() {
  algos::Problem problem{.shape = {.num_experts = 8, .num_ranks = 8, .slots_per_rank = 2}, .num_layers = 1};
  problem.episodes = {{.num_layers = 1, .num_experts = 8, .tokens = {600, 560, 120, 120, 20, 10, 10, 10}}};
  return problem;
}

inline algos::Problem RandomProblem(algos::Shape shape, int num_layers, Rng& rng) {
  algos::Problem problem{.shape = shape, .num_layers = num_layers};
  const uint64_t kind = rng.Below(3);
  problem.episodes = {LogNormalLoad(num_layers, shape.num_experts, 1.2, rng)};
  for (uint64_t& tokens : problem.episodes[0].tokens) {
    if (kind == 1) tokens %= 5;
    if (kind == 2 && rng.Chance(0.5)) tokens = 0;
  }
  return problem;
}

// Every expert has a slot and no slot is blank; planning twice gives the same; what a layer gets does not depend on
// which others are planned; layers that are not planned stay as they are.
inline void CheckProperties(PlanFunction plan, algos::Shape shape, uint64_t seed) {
  CAPTURE(seed, shape.num_experts, shape.num_ranks, shape.slots_per_rank);
  Rng rng(seed);
  algos::Problem problem = RandomProblem(shape, 3, rng);
  const auto planned = plan(problem);
  REQUIRE(planned.ok());
  REQUIRE(planned->size() == 3);
  CHECK(*planned == *plan(problem));
  for (const algos::Placement& placement : *planned) {
    CHECK(algos::Validate(placement, shape).ok());
    CHECK(std::count(placement.expert_of_slot.begin(), placement.expert_of_slot.end(), kNoExpert) == 0);
  }
  problem.current.assign(3, algos::DefaultPlacement(shape));
  const auto moved = plan(problem);
  problem.layers = {LayerId(1)};
  const auto one = plan(problem);
  REQUIRE((moved.ok() && one.ok()));
  CHECK((*one)[0] == problem.current[0]);
  CHECK((*one)[1] == (*moved)[1]);
  CHECK((*one)[2] == problem.current[2]);
}

// Loads eight times as large, which no type here rounds differently, give the same plan.
inline void CheckScaling(PlanFunction plan, algos::Shape shape, uint64_t seed) {
  CAPTURE(seed);
  Rng rng(seed);
  algos::Problem problem = RandomProblem(shape, 2, rng);
  const auto planned = plan(problem);
  for (uint64_t& tokens : problem.episodes[0].tokens) tokens *= 8;
  REQUIRE(planned.ok());
  CHECK(*plan(problem) == *planned);
}

inline void CheckRefusesDeadRanks(PlanFunction plan, const std::string& name) {
  algos::Problem problem = EightExperts();
  problem.dead_ranks = {false, true, false, false, false, false, false, true};
  const auto refused = plan(problem);
  CHECK(refused.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(refused.status().message() == name + ": cannot leave out 2 dead ranks");
}

}  // namespace evenkeel::testing
