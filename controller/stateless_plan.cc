// SPDX-License-Identifier: Apache-2.0
#include "controller/stateless_plan.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "algos/moves.h"
#include "algos/policies/registry.h"
#include "algos/policies/repair/protection.h"
#include "algos/rank_cost.h"
#include "algos/shares.h"
#include "algos/survivability.h"
#include "proto/convert_common.h"
#include "proto/evenkeel/v1/control.pb.h"

namespace evenkeel::controller {
namespace {

using proto::Bad;
using proto::CheckRange;

constexpr uint64_t kNumbersMax = uint64_t{1} << 24;

std::string Field(absl::string_view name, int index) { return absl::StrCat("plan.", name, "[", index, "]"); }

absl::Status ReadSizes(const v1::PlanRequest& request, algos::Problem& problem) {
  const v1::Shape& shape = request.shape();
  EVENKEEL_RETURN_IF_ERROR(CheckRange("plan.shape.num_experts", shape.num_experts(), 1, proto::kExpertsMax));
  EVENKEEL_RETURN_IF_ERROR(CheckRange("plan.shape.num_ranks", shape.num_ranks(), 1, proto::kRanksMax));
  EVENKEEL_RETURN_IF_ERROR(CheckRange("plan.shape.slots_per_rank", shape.slots_per_rank(), 1, proto::kSlotsPerRankMax));
  EVENKEEL_RETURN_IF_ERROR(CheckRange("plan.num_layers", request.num_layers(), 1, proto::kLayersMax));
  const uint64_t num_slots = uint64_t{shape.num_ranks()} * shape.slots_per_rank();
  EVENKEEL_RETURN_IF_ERROR(CheckRange("plan.shape: slots", num_slots, shape.num_experts(), proto::kSlotsPerLayerMax));
  EVENKEEL_RETURN_IF_ERROR(
      CheckRange("plan.shape: slots of all layers", num_slots * request.num_layers(), 1, proto::kSlotsPerGroupMax));
  problem.shape = {.num_experts = static_cast<int>(shape.num_experts()),
                   .num_ranks = static_cast<int>(shape.num_ranks()),
                   .slots_per_rank = static_cast<int>(shape.slots_per_rank())};
  problem.num_layers = static_cast<int>(request.num_layers());
  EVENKEEL_RETURN_IF_ERROR(CheckRange("plan.num_nodes", request.num_nodes(), 0, shape.num_ranks()));
  EVENKEEL_RETURN_IF_ERROR(CheckRange("plan.num_expert_groups", request.num_expert_groups(), 0, shape.num_experts()));
  problem.num_nodes = std::max(static_cast<int>(request.num_nodes()), 1);
  problem.num_expert_groups = std::max(static_cast<int>(request.num_expert_groups()), 1);
  return absl::OkStatus();
}

absl::Status ReadEpisodes(const v1::PlanRequest& request, algos::Problem& problem) {
  const uint64_t numbers = static_cast<uint64_t>(problem.num_layers) * static_cast<uint64_t>(problem.shape.num_experts);
  EVENKEEL_RETURN_IF_ERROR(
      CheckRange("plan.episodes: their number", static_cast<uint64_t>(request.episodes_size()), 1, kNumbersMax));
  EVENKEEL_RETURN_IF_ERROR(CheckRange("plan.episodes: numbers in all",
                                      numbers * static_cast<uint64_t>(request.episodes_size()), 1, kNumbersMax));
  for (int i = 0; i < request.episodes_size(); ++i) {
    const auto& tokens = request.episodes(i).tokens();
    if (static_cast<uint64_t>(tokens.size()) != numbers) {
      return absl::InvalidArgumentError(absl::StrCat(Field("episodes", i), ".tokens has ", tokens.size(),
                                                     " numbers: num_layers x num_experts, ", numbers, ", wanted"));
    }
    problem.episodes.push_back({.num_layers = problem.num_layers,
                                .num_experts = problem.shape.num_experts,
                                .tokens = {tokens.begin(), tokens.end()}});
  }
  return absl::OkStatus();
}

absl::Status ReadCurrent(const v1::PlanRequest& request, algos::Problem& problem) {
  if (request.current().empty()) return absl::OkStatus();
  if (request.current_size() != problem.num_layers) {
    return absl::InvalidArgumentError(absl::StrCat("plan.current has ", request.current_size(),
                                                   " placements: none or num_layers, ", problem.num_layers,
                                                   ", wanted"));
  }
  for (int l = 0; l < request.current_size(); ++l) {
    const auto& experts = request.current(l).expert_of_slot();
    if (experts.size() != problem.shape.num_slots()) {
      return absl::InvalidArgumentError(absl::StrCat(Field("current", l), ".expert_of_slot has ", experts.size(),
                                                     " slots: ", problem.shape.num_slots(), " wanted"));
    }
    algos::Placement& placement = problem.current.emplace_back();
    for (int s = 0; s < experts.size(); ++s) {
      if (experts[s] < -1 || experts[s] >= problem.shape.num_experts) {
        return Bad(absl::StrCat(Field("current", l), ".expert_of_slot[", s, "]"), experts[s],
                   absl::StrCat("-1 to ", problem.shape.num_experts - 1));
      }
      placement.expert_of_slot.push_back(ExpertId(experts[s]));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadRanksAndLayers(const v1::PlanRequest& request, algos::Problem& problem) {
  const uint64_t last_rank = static_cast<uint64_t>(problem.shape.num_ranks) - 1;
  const uint64_t last_layer = static_cast<uint64_t>(problem.num_layers) - 1;
  const uint64_t last_expert = static_cast<uint64_t>(problem.shape.num_experts) - 1;
  if (!request.dead_ranks().empty()) problem.dead_ranks.assign(static_cast<size_t>(problem.shape.num_ranks), false);
  for (int i = 0; i < request.dead_ranks_size(); ++i) {
    EVENKEEL_RETURN_IF_ERROR(CheckRange(Field("dead_ranks", i), request.dead_ranks(i), 0, last_rank));
    problem.dead_ranks[request.dead_ranks(i)] = true;
  }
  for (int i = 0; i < request.layers_size(); ++i) {
    EVENKEEL_RETURN_IF_ERROR(CheckRange(Field("layers", i), request.layers(i), 0, last_layer));
    problem.layers.push_back(LayerId(static_cast<int32_t>(request.layers(i))));
  }
  std::ranges::sort(problem.layers);
  problem.layers.erase(std::unique(problem.layers.begin(), problem.layers.end()), problem.layers.end());
  for (int i = 0; i < request.pins_size(); ++i) {
    const v1::PlanPin& pin = request.pins(i);
    EVENKEEL_RETURN_IF_ERROR(CheckRange(Field("pins", i) + ".layer", pin.layer(), 0, last_layer));
    EVENKEEL_RETURN_IF_ERROR(CheckRange(Field("pins", i) + ".expert", pin.expert(), 0, last_expert));
    EVENKEEL_RETURN_IF_ERROR(CheckRange(Field("pins", i) + ".rank", pin.rank(), 0, last_rank));
    problem.pins.push_back({.layer = LayerId(static_cast<int32_t>(pin.layer())),
                            .expert = ExpertId(static_cast<int32_t>(pin.expert())),
                            .rank = RankId(static_cast<int32_t>(pin.rank()))});
  }
  EVENKEEL_RETURN_IF_ERROR(CheckRange("plan.survive_ranks", request.survive_ranks(), 0, proto::kRanksMax));
  EVENKEEL_RETURN_IF_ERROR(CheckRange("plan.survive_hosts", request.survive_hosts(), 0, proto::kRanksMax));
  problem.survive = {.ranks = static_cast<int>(request.survive_ranks()),
                     .hosts = static_cast<int>(request.survive_hosts())};
  for (int i = 0; i < request.hosts_size(); ++i) {
    EVENKEEL_RETURN_IF_ERROR(CheckRange(Field("hosts", i), request.hosts(i), 0, INT32_MAX));
    problem.hosts.push_back(static_cast<int32_t>(request.hosts(i)));
  }
  problem.capacities.assign(request.capacities().begin(), request.capacities().end());
  if (request.has_cost_per_expert()) problem.cost.per_expert = request.cost_per_expert();
  if (request.has_cost_per_token()) problem.cost.per_token = request.cost_per_token();
  return absl::OkStatus();
}

// ---- What a plan comes to

// Without what dead ranks held.
algos::Placement LivingPart(const algos::Problem& problem, algos::Placement placement) {
  for (int s = 0; s < problem.shape.num_slots(); ++s) {
    const SlotIdx slot(s);
    if (!problem.IsLive(problem.shape.RankOf(slot))) placement.expert_of_slot[slot.idx()] = kNoExpert;
  }
  return placement;
}

// Levels (rank_cost.h).
struct Outlook {
  algos::Shares shares;
  double even = 0;
  double shared = 0;
};

// With `shares`, or shares solved for the load where they are empty.
Outlook OutlookOf(const algos::Problem& problem, const algos::Placement& placement, std::span<const uint64_t> tokens,
                  algos::Shares shares, algos::SharesSolver& solver) {
  Outlook outlook;
  const algos::RankRules rules = algos::RulesOf(problem);
  const algos::Replicas replicas = algos::Invert(placement, problem.shape.num_experts);
  if (shares.empty()) {
    shares = solver.Solve(problem.shape, replicas, tokens, {}, rules).shares;
  }
  const algos::LayerMap map = algos::SharedMap(placement, problem.shape.num_experts, shares);
  outlook.even = algos::LevelOf(rules, problem.shape, replicas, {}, tokens);
  outlook.shared = algos::LevelOf(rules, problem.shape, map, tokens);
  outlook.shares = std::move(shares);
  return outlook;
}

void FillWaves(const algos::Problem& problem, const v1::PlanRequest& request, const algos::Placement& current,
               const algos::Placement& target, v1::PlannedLayer* out) {
  algos::MoveLimits limits;
  if (request.moves_per_rank_max() > 0) limits.moves_per_rank_max = static_cast<int>(request.moves_per_rank_max());
  if (request.copies_per_source_max() > 0) {
    limits.copies_per_source_max = static_cast<int>(request.copies_per_source_max());
  }
  const int ranks_per_node = problem.shape.num_ranks / problem.num_nodes;
  for (int r = 0; r < problem.shape.num_ranks; ++r) limits.node_of_rank.push_back(r / ranks_per_node);
  const auto waves = algos::PlanMoves(problem.shape, current, target, limits);
  if (!waves.ok()) {
    out->set_no_waves(std::string(waves.status().message()));
    return;
  }
  for (const algos::Wave& wave : *waves) {
    v1::PlannedWave* filled = out->add_waves();
    for (SlotIdx slot : wave.retire) filled->add_retire(static_cast<uint32_t>(slot.value()));
    for (const algos::PlannedMove& move : wave.moves) {
      v1::PlannedMove* filled_move = filled->add_moves();
      filled_move->set_slot(static_cast<uint32_t>(move.slot.value()));
      filled_move->set_expert(static_cast<uint32_t>(move.expert.value()));
      for (SlotIdx source : move.sources) filled_move->add_sources(static_cast<uint32_t>(source.value()));
    }
  }
}

void FillPlacement(const algos::Problem& problem, const algos::Placement& placement, const algos::Shares& shares,
                   v1::PlannedLayer* out) {
  for (ExpertId expert : placement.expert_of_slot) out->add_expert_of_slot(expert.value());
  out->mutable_shares()->Resize(problem.shape.num_slots(), 0.0);
  const algos::Replicas replicas = algos::Invert(placement, problem.shape.num_experts);
  for (size_t i = 0; i < replicas.slots.size(); ++i) out->set_shares(replicas.slots[i].value(), shares[i]);
}

void FillSurvival(const algos::Problem& problem, const algos::Placement& placement, v1::PlannedLayer* out) {
  const auto found = algos::SurvivabilityOf(placement, problem.shape, algos::HostOfRank(problem));
  out->set_ranks_may_be_lost(static_cast<uint32_t>(std::max(found.ranks.serving, 0)));
  out->set_hosts_may_be_lost(static_cast<uint32_t>(std::max(found.hosts.serving, 0)));
  for (ExpertId expert : algos::ExpertsAtRisk(problem, placement)) {
    out->add_experts_at_risk(static_cast<uint32_t>(expert.value()));
  }
}

}  // namespace

absl::StatusOr<algos::Problem> ProblemOf(const v1::PlanRequest& request) {
  algos::Problem problem;
  EVENKEEL_RETURN_IF_ERROR(ReadSizes(request, problem));
  EVENKEEL_RETURN_IF_ERROR(ReadEpisodes(request, problem));
  EVENKEEL_RETURN_IF_ERROR(ReadCurrent(request, problem));
  EVENKEEL_RETURN_IF_ERROR(ReadRanksAndLayers(request, problem));
  if (request.has_moves_max()) {
    EVENKEEL_RETURN_IF_ERROR(CheckRange("plan.moves_max", request.moves_max(), 0, proto::kSlotsPerLayerMax));
    problem.moves_max.assign(static_cast<size_t>(problem.num_layers), static_cast<int>(request.moves_max()));
  }
  EVENKEEL_RETURN_IF_ERROR(
      CheckRange("plan.moves_per_rank_max", request.moves_per_rank_max(), 0, proto::kSlotsPerRankMax));
  EVENKEEL_RETURN_IF_ERROR(
      CheckRange("plan.copies_per_source_max", request.copies_per_source_max(), 0, proto::kSlotsPerRankMax));
  if (request.waves() && problem.current.empty()) {
    return absl::InvalidArgumentError("plan.waves: there are none without `current`");
  }
  EVENKEEL_RETURN_IF_ERROR(algos::Validate(problem));
  return problem;
}

absl::StatusOr<std::vector<algos::Placement>> PlacementsOf(
    absl::string_view path, const google::protobuf::RepeatedPtrField<v1::PlanPlacement>& placements) {
  std::vector<algos::Placement> read;
  const std::string layers = absl::StrCat(path, ": layers");
  EVENKEEL_RETURN_IF_ERROR(CheckRange(layers, static_cast<uint64_t>(placements.size()), 0, proto::kLayersMax));
  for (int l = 0; l < placements.size(); ++l) {
    const auto& experts = placements[l].expert_of_slot();
    const std::string slots = absl::StrCat(path, "[", l, "].expert_of_slot");
    EVENKEEL_RETURN_IF_ERROR(
        CheckRange(slots + ": slots", static_cast<uint64_t>(experts.size()), 1, proto::kSlotsPerLayerMax));
    algos::Placement& placement = read.emplace_back();
    for (int s = 0; s < experts.size(); ++s) {
      if (experts[s] < -1) return Bad(absl::StrCat(slots, "[", s, "]"), experts[s], "-1 or an expert");
      placement.expert_of_slot.push_back(ExpertId(experts[s]));
    }
  }
  return read;
}

absl::StatusOr<v1::PlanResponse> PlanFor(const v1::PlanRequest& request, absl::string_view default_policy) {
  EVENKEEL_ASSIGN_OR_RETURN(const algos::Problem problem, ProblemOf(request));
  v1::PlanResponse response;
  response.set_policy(request.policy().empty() ? std::string(default_policy) : request.policy());
  const auto policy = algos::FindPolicy(response.policy());
  if (!policy.ok()) return absl::InvalidArgumentError(absl::StrCat("plan.policy: ", policy.status().message()));
  algos::PolicyConfig config;
  config.options = {request.policy_options().begin(), request.policy_options().end()};
  EVENKEEL_ASSIGN_OR_RETURN(config.placements, PlacementsOf("plan.placements", request.placements()));
  if (!config.placements.empty() && policy->name != "static") {
    return absl::InvalidArgumentError(
        absl::StrCat("plan.placements: they go with policy static, not ", response.policy()));
  }
  if (const absl::Status read = algos::ReadOptions(policy->name, policy->options, config).status(); !read.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("plan.policy_options: ", read.message()));
  }
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<algos::LayerPlan> plans, policy->plan(problem, config));
  const algos::Load load = algos::TotalLoad(problem);
  algos::SharesSolver solver;
  for (LayerId layer : algos::PlannedLayers(problem)) {
    const algos::LayerPlan& plan = plans[layer.idx()];
    const auto tokens = load.layer(layer);
    v1::PlannedLayer* out = response.add_layers();
    out->set_layer(static_cast<uint32_t>(layer.value()));
    const Outlook after = OutlookOf(problem, plan.placement, tokens, plan.shares, solver);
    out->set_imbalance_even(after.even);
    out->set_imbalance_shares(after.shared);
    FillPlacement(problem, plan.placement, after.shares, out);
    FillSurvival(problem, plan.placement, out);
    if (problem.current.empty()) continue;
    const algos::Placement current = LivingPart(problem, problem.current[layer.idx()]);
    const Outlook before = OutlookOf(problem, current, tokens, {}, solver);
    out->set_imbalance_before_even(before.even);
    out->set_imbalance_before_shares(before.shared);
    out->set_num_moves(static_cast<uint32_t>(algos::CountMoves(problem.shape, current, plan.placement)));
    if (request.waves()) FillWaves(problem, request, current, plan.placement, out);
  }
  return response;
}

}  // namespace evenkeel::controller
