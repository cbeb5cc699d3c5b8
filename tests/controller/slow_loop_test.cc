// SPDX-License-Identifier: Apache-2.0
//
// What the slow loop plans by itself, what it leaves alone, and what it says about it.
#include "controller/core/planning/slow_loop.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "algos/placement.h"
#include "algos/policies/registry.h"
#include "tests/controller/cluster.h"
#include "tests/controller/scenario.h"

namespace evenkeel::controller {
namespace {

Cluster::Options PlansEvery5s() {
  Cluster::Options options = Basic();
  options.settings.defaults.placement_enabled = true;
  options.settings.defaults.placement_interval = absl::Seconds(5);
  options.settings.defaults.num_windows_for_placement = 4;
  return options;
}

std::vector<uint64_t> HotAt(const Cluster& cluster, size_t first, size_t second) {
  std::vector<uint64_t> layer(static_cast<size_t>(cluster.options.shape.num_experts), 1000);
  layer[first] = 40000;
  layer[second] = 20000;
  return layer;
}

// The group's own operations that are decided, oldest first.
std::vector<OperationProgress> Decided(const Cluster& cluster) {
  std::vector<OperationProgress> list = cluster.coordinator->ListOperations(kGroup);
  std::erase_if(list, [](const OperationProgress& operation) { return operation.decisions == nullptr; });
  std::ranges::reverse(list);
  return list;
}

OperationProgress NextDecided(Cluster& cluster) {
  const size_t before = Decided(cluster).size();
  REQUIRE(cluster.RunUntil([&] { return Decided(cluster).size() > before && Steady(cluster); }));
  return Decided(cluster)[before];
}

std::vector<DecisionReason> Whys(const OperationProgress& operation) {
  std::vector<DecisionReason> whys;
  for (const LayerDecision& decision : *operation.decisions) whys.push_back(decision.why);
  return whys;
}

// Whether some plan but the first says anything else than `why` of the layer, within a few plans.
bool AnyDecidedOtherwise(Cluster& cluster, size_t layer, DecisionReason why) {
  cluster.Run(absl::Seconds(20));
  const std::vector<OperationProgress> decided = Decided(cluster);
  REQUIRE(decided.size() >= 4);
  return std::any_of(decided.begin() + 1, decided.end(),
                     [&](const OperationProgress& operation) { return Whys(operation)[layer] != why; });
}

using Reasons = std::vector<DecisionReason>;

TEST_CASE("each layer of a plan has its decision, with what it was decided by", "[slow_loop]") {
  Cluster cluster(PlansEvery5s());
  cluster.load = {HotAt(cluster, 0, 1), std::vector<uint64_t>(8, 5000)};
  Start(cluster);
  const OperationProgress operation = NextDecided(cluster);
  REQUIRE(operation.decisions->size() == 2);
  const LayerDecision& hot = (*operation.decisions)[0];
  CHECK(hot.layer == LayerId(0));
  CHECK(hot.act);
  CHECK(hot.why == DecisionReason::kActs);
  CHECK(hot.num_moves > 0);
  CHECK(hot.num_moves == operation.num_moves);
  CHECK(hot.imbalance_after < hot.imbalance_before - 0.02);
  CHECK(hot.gain_tokens > hot.price_tokens);
  CHECK(hot.price_tokens > 0);
  const LayerDecision& level = (*operation.decisions)[1];
  CHECK_FALSE(level.act);
  CHECK((level.why == DecisionReason::kStays || level.why == DecisionReason::kSmallGain));
  CHECK_FALSE(level.reason.empty());
  CHECK(cluster.Status().totals.layers_planned == 2);
  CHECK(cluster.Status().totals.layers_without_gain == 1);
}

TEST_CASE("engine steps wake the slow loop, also those of engines that count anew", "[slow_loop]") {
  Cluster::Options options = PlansEvery5s();
  options.settings.defaults.placement_interval = absl::Hours(1);
  options.settings.defaults.planning.placement_interval_steps = GENERATE(0, 100);
  const bool by_steps = options.settings.defaults.planning.placement_interval_steps > 0;
  Cluster cluster(options);
  cluster.load = {HotAt(cluster, 0, 1), HotAt(cluster, 2, 3)};
  Start(cluster);
  const uint64_t first = cluster.step;
  CHECK(cluster.RunUntil([&] { return Decided(cluster).size() == 1; }, absl::Seconds(30)) == by_steps);
  if (!by_steps) return;
  CHECK(cluster.step >= 100);
  CHECK(cluster.step < first + 120);
  const uint64_t second = cluster.step;
  REQUIRE(cluster.RunUntil([&] { return Decided(cluster).size() == 2; }, absl::Seconds(30)));
  CHECK(cluster.step - second > 80);
  cluster.step = 0;
  CHECK(cluster.RunUntil([&] { return Decided(cluster).size() == 3; }, absl::Seconds(30)));
}

TEST_CASE("a layer whose load stays is not planned again until it moves", "[slow_loop]") {
  Cluster::Options options = PlansEvery5s();
  options.settings.defaults.planning.min_fluctuation = 0.01;
  Cluster cluster(options);
  cluster.load = {HotAt(cluster, 0, 1), HotAt(cluster, 2, 3)};
  Start(cluster);
  CHECK(Whys(NextDecided(cluster)) == Reasons{DecisionReason::kActs, DecisionReason::kActs});
  cluster.hold_plans = true;  // a plan would wait here
  const OperationProgress still = NextDecided(cluster);
  CHECK(still.state == OperationState::kSkipped);
  CHECK(Whys(still) == Reasons{DecisionReason::kSteady, DecisionReason::kSteady});
  CHECK(still.detail.find("0 of 2 layers, 0 moves; 2 steady; layer 0 is not planned: its load moved by 0.00") == 0);
  CHECK(cluster.plans.empty());
  CHECK(cluster.Status().totals.layers_steady == 2);
  cluster.hold_plans = false;
  cluster.load[1] = HotAt(cluster, 5, 6);
  CHECK(AnyDecidedOtherwise(cluster, 1, DecisionReason::kSteady));
  CHECK_FALSE(AnyDecidedOtherwise(cluster, 0, DecisionReason::kSteady));
}

TEST_CASE("a layer just rearranged rests unless it is much worse", "[slow_loop]") {
  Cluster::Options options = PlansEvery5s();
  options.settings.defaults.planning.layer_rest_windows = 1000;
  options.settings.defaults.planning.layer_rest_rise = GENERATE(100.0, 0.01);
  const bool much_worse = options.settings.defaults.planning.layer_rest_rise < 1;
  Cluster cluster(options);
  cluster.load = {HotAt(cluster, 0, 1), HotAt(cluster, 2, 3)};
  Start(cluster);
  CHECK(Whys(NextDecided(cluster)) == Reasons{DecisionReason::kActs, DecisionReason::kActs});
  cluster.load[1] = HotAt(cluster, 6, 7);
  CHECK(AnyDecidedOtherwise(cluster, 1, DecisionReason::kResting) == much_worse);
  CHECK_FALSE(AnyDecidedOtherwise(cluster, 0, DecisionReason::kResting));
  CHECK(cluster.Status().totals.layers_resting >= 1);
}

TEST_CASE("only layers of enough imbalance are planned", "[slow_loop]") {
  Cluster::Options options = PlansEvery5s();
  options.settings.defaults.planning.layer_imbalance_min = 1.2;
  Cluster cluster(options);
  cluster.load = {std::vector<uint64_t>(8, 5000), HotAt(cluster, 0, 1)};
  cluster.hold_plans = true;
  Start(cluster);
  REQUIRE(cluster.RunUntil([&] { return !cluster.plans.empty(); }));
  CHECK(cluster.plans.front().problem->layers == std::vector<LayerId>{LayerId(1)});
  CHECK(cluster.Status().totals.layers_balanced == 1);
}

TEST_CASE("a plan's layers of less gain wait for the next plan", "[slow_loop]") {
  Cluster::Options options = PlansEvery5s();
  SECTION("by number") { options.settings.defaults.planning.layers_max = 1; }
  SECTION("by bytes") { options.settings.defaults.planning.bytes_per_plan_max = 1000; }
  options.settings.defaults.planning.moves_per_layer_max = 1;
  options.settings.defaults.planning.min_fluctuation = 0.01;
  Cluster cluster(options);
  cluster.load = {HotAt(cluster, 0, 1), HotAt(cluster, 2, 3)};
  for (uint64_t& tokens : cluster.load[1]) tokens *= 2;
  Start(cluster);
  CHECK(Whys(NextDecided(cluster)) == Reasons{DecisionReason::kBehind, DecisionReason::kActs});
  CHECK(cluster.Status().totals.layers_over_budget == 1);
  CHECK(Whys(NextDecided(cluster)) == Reasons{DecisionReason::kActs, DecisionReason::kSteady});
}

TEST_CASE("a layer's moves are saved up", "[slow_loop]") {
  Cluster::Options options = PlansEvery5s();
  options.settings.defaults.planning.layer_moves_per_100_windows = 1;
  Cluster cluster(options);
  cluster.load = {HotAt(cluster, 0, 1), HotAt(cluster, 2, 3)};
  Start(cluster);
  const OperationProgress first = NextDecided(cluster);
  for (const LayerDecision& decision : *first.decisions) CHECK(decision.num_moves <= 1);
  const OperationProgress second = NextDecided(cluster);
  CHECK(Whys(second) == Reasons{DecisionReason::kNoMovesLeft, DecisionReason::kNoMovesLeft});
  cluster.load = {HotAt(cluster, 5, 6), HotAt(cluster, 5, 6)};
  cluster.Run(absl::Seconds(100));
  CHECK(cluster.Status().totals.layers_planned >= 4);
  CHECK(cluster.Status().totals.moves <= 4);
}

TEST_CASE("a layer is planned within the moves that it has left itself", "[slow_loop]") {
  Cluster::Options options = PlansEvery5s();
  options.settings.defaults.planning.layer_moves_per_100_windows = 4;
  Cluster cluster(options);
  cluster.load = {HotAt(cluster, 0, 1), std::vector<uint64_t>(8, 5000)};
  Start(cluster);
  const int spent = (*NextDecided(cluster).decisions)[0].num_moves;
  REQUIRE(spent > 0);
  REQUIRE(spent < 4);
  cluster.load = {HotAt(cluster, 5, 6), HotAt(cluster, 5, 6)};
  OperationProgress second = NextDecided(cluster);
  while (!(*second.decisions)[1].act) second = NextDecided(cluster);
  CHECK((*second.decisions)[0].act);
  CHECK((*second.decisions)[0].num_moves <= 4 - spent);
  CHECK((*second.decisions)[1].num_moves > 4 - spent);
}

TEST_CASE("an operator's plan knows no thresholds or budgets", "[slow_loop]") {
  Cluster::Options options = Basic();
  options.settings.defaults.planning.layer_imbalance_min = 1000;
  options.settings.defaults.planning.layers_max = 1;
  options.settings.defaults.planning.bytes_per_plan_max = 1;
  Cluster cluster(options);
  StartUnderLoad(cluster);
  cluster.Rearrange("r1");
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  CHECK(cluster.Operation("r1").num_layers_done == 2);
}

TEST_CASE("policies are told what is configured and asked for", "[slow_loop]") {
  Cluster::Options options = Basic();
  PlanningSettings& planning = options.settings.defaults.planning;
  planning.policy_options = {{"depth", 2}, {"width", 3}};
  planning.pins = {{LayerId(1), ExpertId(7), RankId(0)}};
  planning.capacities = {1, 1, 2, 2};
  planning.cost = {.per_expert = 5, .per_token = 1};
  planning.num_expert_groups = 2;
  Cluster cluster(options);
  StartUnderLoad(cluster);
  cluster.hold_plans = true;
  RearrangeRequested request{"r1", kGroup, "", {}, true};
  request.policy_options = {{"width", 4}};
  cluster.Deliver(request);
  cluster.Rearrange("r2", "deepseek", {}, true);
  REQUIRE(cluster.plans.size() == 2);
  const ComputePlan& plan = cluster.plans[0];
  CHECK(plan.config.options == PolicyOptions{{"depth", 2}, {"width", 4}});
  CHECK(plan.problem->pins == planning.pins);
  CHECK(plan.problem->capacities == planning.capacities);
  CHECK(plan.problem->cost == planning.cost);
  CHECK(plan.problem->num_expert_groups == 2);
  CHECK(cluster.plans[1].config.options.empty());
}

TEST_CASE("a plan's own shares are the first that a layer gets", "[slow_loop]") {
  Cluster::Options options = Basic();
  options.settings.defaults.shares_enabled = false;
  Cluster cluster(options);
  StartUnderLoad(cluster);
  cluster.hold_plans = true;
  cluster.Rearrange("r1", "greedy", {LayerId(0)});
  REQUIRE(cluster.plans.size() == 1);
  const ComputePlan plan = cluster.plans.front();
  std::vector<algos::LayerPlan> planned = *algos::PlanBy("greedy", *plan.problem);
  const algos::Replicas replicas = algos::Invert(planned[0].placement, options.shape.num_experts);
  for (int e = 0; e < options.shape.num_experts; ++e) {
    const int n = replicas.num_replicas(ExpertId(e));
    for (int i = 0; i < n; ++i) planned[0].shares.push_back(n == 1 ? 1.0 : i == 0 ? 0.75 : 0.25 / (n - 1));
  }
  cluster.Deliver(PlanComputed{plan.plan_id, planned});
  REQUIRE(cluster.RunUntil([&] { return cluster.StateOf("r1") == "done"; }));
  const algos::LayerMap map = cluster.coordinator->GetMaps(kGroup)->layers[0].map;
  int num_shared = 0;
  for (int e = 0; e < options.shape.num_experts; ++e) {
    if (map.num_replicas(ExpertId(e)) < 2) continue;
    ++num_shared;
    CHECK(map.ShareUnits(ExpertId(e), 0) == Approx(0.75 * static_cast<double>(algos::kShareUnits)));
  }
  CHECK(num_shared > 0);
}

TEST_CASE("a plan whose shares are none is not carried out", "[slow_loop]") {
  Cluster cluster(Basic());
  StartUnderLoad(cluster);
  cluster.hold_plans = true;
  cluster.Rearrange("r1", "greedy");
  REQUIRE(cluster.plans.size() == 1);
  const ComputePlan plan = cluster.plans.front();
  std::vector<algos::LayerPlan> planned = *algos::PlanBy("greedy", *plan.problem);
  planned[1].shares = algos::Shares(12, 1.0);
  SECTION("one too few") { planned[1].shares.pop_back(); }
  SECTION("not a number") { planned[1].shares[3] = std::nan(""); }
  SECTION("negative") { planned[1].shares[3] = -0.5; }
  cluster.Deliver(PlanComputed{plan.plan_id, planned});
  CHECK(cluster.StateOf("r1") == "failed");
  CHECK(cluster.Operation("r1").detail.find("plan of layer 1: its 1") == 0);
  CHECK(cluster.orders.empty());
}

TEST_CASE("the phase that costs more is planned for, by its own policy on its own tokens", "[slow_loop]") {
  Cluster::Options options = PlansEvery5s();
  PlanningSettings& planning = options.settings.defaults.planning;
  planning.policy_options = {{"of_all", 1}};
  planning.prefill = {"deepseek", {{"of_prefill", 1}}};
  Cluster cluster(options);
  const std::vector<uint64_t> prefill = HotAt(cluster, 0, 1), decode = HotAt(cluster, 4, 5);
  std::vector<uint64_t> all = prefill;
  for (size_t e = 0; e < all.size(); ++e) all[e] += decode[e] / 2;
  cluster.load = {all, all};
  cluster.prefill_load = {prefill, prefill};
  cluster.hold_plans = true;
  SECTION("prefill, with a policy of its own") {
    Start(cluster);
    REQUIRE(cluster.RunUntil([&] { return !cluster.plans.empty(); }));
    const ComputePlan& plan = cluster.plans.front();
    CHECK(plan.policy == "deepseek");
    CHECK(plan.config.options == planning.prefill.options);
    const algos::Load load = algos::TotalLoad(*plan.problem);
    CHECK(load.tokens[0] > 30 * load.tokens[4]);
    CHECK(cluster.coordinator->ListOperations(kGroup).front().phase == "prefill");
    CHECK(cluster.coordinator->ListOperations(kGroup).front().policy == "deepseek");
  }
  SECTION("decode, without one: all tokens, by the group's policy") {
    for (auto& layer : cluster.prefill_load) {
      for (uint64_t& tokens : layer) tokens /= 10;
    }
    Start(cluster);
    REQUIRE(cluster.RunUntil([&] { return !cluster.plans.empty(); }));
    const ComputePlan& plan = cluster.plans.front();
    CHECK(plan.policy == "greedy");
    CHECK(plan.config.options == planning.policy_options);
    const algos::Load load = algos::TotalLoad(*plan.problem);
    CHECK(load.tokens[0] < 3 * load.tokens[4]);
    CHECK(cluster.coordinator->ListOperations(kGroup).front().phase.empty());
  }
  SECTION("an operator who names a policy plans on all tokens") {
    Start(cluster);
    cluster.Run(absl::Seconds(3));
    cluster.Rearrange("r1", "greedy", {}, true);
    REQUIRE(cluster.plans.size() == 1);
    const algos::Load load = algos::TotalLoad(*cluster.plans.front().problem);
    CHECK(load.tokens[0] < 3 * load.tokens[4]);
  }
}

TEST_CASE("tokens are told by phase", "[slow_loop]") {
  Cluster cluster(Basic());
  cluster.load = Skewed(cluster);
  cluster.prefill_load = cluster.load;
  for (auto& layer : cluster.prefill_load) {
    for (uint64_t& tokens : layer) tokens /= 4;
  }
  Start(cluster);
  cluster.Run(absl::Seconds(4));
  const GroupStats stats = *cluster.coordinator->GetStats(kGroup, {.num_windows = 2, .span = {}}, cluster.now);
  CHECK(stats.prefill_tokens + stats.decode_tokens == stats.tokens);
  CHECK(static_cast<double>(stats.prefill_tokens) == Approx(0.25 * static_cast<double>(stats.tokens)).epsilon(0.01));
  CHECK(stats.windows[0].prefill_tokens > 0);
  const LayerStats& layer = stats.layers[0];
  REQUIRE(layer.prefill_tokens_of_expert.size() == 8);
  CHECK(layer.prefill_tokens_of_expert[0] + layer.decode_tokens_of_expert[0] == layer.tokens_of_expert[0]);
}

TEST_CASE("a group that its configuration does not fit is refused", "[slow_loop]") {
  Cluster::Options options = Basic();
  std::string why;
  SECTION("capacities") {
    options.settings.defaults.planning.capacities = {1, 2};
    why = "group g has 4 ranks, but its configuration lists 2 capacities";
  }
  SECTION("pins") {
    options.settings.defaults.planning.pins = {{LayerId(0), ExpertId(8), RankId(0)}};
    why = "group g has 2 layers, 8 experts and 4 ranks, but its configuration pins expert 8 of layer 0 to rank 0";
  }
  SECTION("expert groups") {
    options.settings.defaults.planning.num_expert_groups = 3;
    why = "group g has 8 experts, which 3 expert groups, as configured, do not divide";
  }
  Cluster cluster(options);
  cluster.AttachAgent(0);
  REQUIRE(cluster.agents[0].refused.has_value());
  CHECK(std::string(cluster.agents[0].refused->message()) == why);
}

}  // namespace
}  // namespace evenkeel::controller
