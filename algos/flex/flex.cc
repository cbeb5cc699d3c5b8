// SPDX-License-Identifier: Apache-2.0
#include "algos/flex/flex.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "algos/base/check.h"
#include "algos/base/status_macros.h"
#include "algos/moves.h"
#include "algos/policies/repair/layer_costs.h"
#include "algos/policies/repair/part_problem.h"
#include "algos/policies/repair/protection.h"
#include "algos/policies/repair/repair.h"
#include "algos/policies/repair/secure.h"

namespace evenkeel::algos {

namespace {

constexpr double kSpeedOfFastest = 4096;
constexpr double kRetryRise = 0.5;       // of gain_min: by how much a measure must rise after a search in vain
constexpr double kHeatUnits = 1e9;       // all of a layer's load
constexpr double kReplicaCostMax = 1e6;  // over that of a mean expert's tokens, where tokens cost nothing

// Blanks every slot whose expert an earlier slot of the rank holds; returns whether there was one.
bool BlankDoubles(const Shape& shape, Placement& placement) {
  bool any = false;
  auto& experts = placement.expert_of_slot;
  for (size_t s = 0; s < experts.size(); ++s) {
    const size_t first = s - static_cast<size_t>(shape.LocalSlot(SlotIdx(static_cast<int32_t>(s))));
    if (!experts[s].valid()) continue;
    const auto begin = experts.begin() + static_cast<std::ptrdiff_t>(first);
    const auto here = experts.begin() + static_cast<std::ptrdiff_t>(s);
    if (std::find(begin, here, experts[s]) == here) continue;
    experts[s] = kNoExpert;
    any = true;
  }
  return any;
}

bool HoldsEverything(const Problem& problem, LayerId layer, const Placement& placement) {
  std::vector<bool> held(static_cast<size_t>(problem.shape.num_experts), false);
  for (ExpertId expert : placement.expert_of_slot) {
    if (expert.valid()) held[expert.idx()] = true;
  }
  if (std::ranges::find(held, false) != held.end()) return false;
  return std::ranges::all_of(problem.pins, [&](const Pin& pin) {
    if (pin.layer != layer) return true;
    for (int local = 0; local < problem.shape.slots_per_rank; ++local) {
      if (placement.expert_of_slot[problem.shape.SlotAt(pin.rank, local).idx()] == pin.expert) return true;
    }
    return false;
  });
}

}  // namespace

Flex::Flex(const Shape& shape, int num_layers, const FlexOptions& options)
    : shape_(shape),
      num_layers_(num_layers),
      options_(options),
      filter_({.num_layers = num_layers,
               .num_experts = shape.num_experts,
               .num_factors = options.num_factors,
               .forgetting = options.forgetting}),
      memory_({.num_layers = num_layers,
               .num_experts = shape.num_experts,
               .windows_per_block = options.windows_per_block,
               .num_kept_max = options.num_episodes_max}),
      moves_saved_(static_cast<size_t>(num_layers), 0.0),
      idle_measure_(static_cast<size_t>(num_layers), 0.0),
      remembered_(static_cast<size_t>(num_layers)) {}

void Flex::Observe(const Load& window) {
  filter_.Observe(window);
  memory_.Observe(window);
  if (num_observed() <= options_.settle_windows) return;
  for (double& saved : moves_saved_) saved = std::min(saved + options_.moves_per_window, options_.moves_saved_max);
}

bool Flex::IsFreePeriod() const {
  const int n = num_observed();
  return n <= options_.settle_windows && ((n & (n - 1)) == 0 || n == options_.settle_windows);
}

void Flex::Ground(const Problem& problem) {
  EVENKEEL_CHECK(problem.shape == shape_ && problem.num_layers == num_layers_);
  const double fastest = problem.capacities.empty() ? 1 : std::ranges::max(problem.capacities);
  const int ranks_per_node = shape_.num_ranks / problem.num_nodes;
  const std::vector<int32_t> speeds_before = std::move(ground_.speeds);
  ground_ = {.host_of_rank = HostOfRank(problem), .num_hosts = 0};
  std::vector<int32_t> hosts;
  for (int rank = 0; rank < shape_.num_ranks; ++rank) {
    int32_t speed = 1;
    if (!problem.capacities.empty()) {
      const double part = problem.capacities[static_cast<size_t>(rank)] / fastest;
      speed = std::max(1, static_cast<int32_t>(std::lround(part * kSpeedOfFastest)));
    }
    ground_.speeds.push_back(problem.IsLive(RankId(rank)) ? speed : 0);
    ground_.node_of_rank.push_back(rank / ranks_per_node);
    if (problem.IsLive(RankId(rank))) hosts.push_back(ground_.host_of_rank[static_cast<size_t>(rank)]);
  }
  std::ranges::sort(hosts);
  ground_.num_hosts = static_cast<int>(std::unique(hosts.begin(), hosts.end()) - hosts.begin());
  if (ground_.speeds == speeds_before) return;
  // Other ranks, other measures: what was searched in vain may pay now. The load that was seen is as it was.
  remembered_.assign(remembered_.size(), {});
  idle_measure_.assign(idle_measure_.size(), 0.0);
}

WeightedLoad Flex::Scaled(const Problem& problem, std::span<const double> parts, double weight) const {
  WeightedLoad load{.tokens = std::vector<int64_t>(parts.size(), 0), .replica_cost = 0, .weight = weight};
  const double num_ranks = static_cast<double>(problem.num_live_ranks());
  double scale = num_ranks * static_cast<double>(kMeanRankCost);
  if (problem.cost.per_expert > 0 && !problem.episodes.empty()) {
    // Parts are of all tokens; a replica costs as much as so many tokens of the newest window do.
    double tokens = 0;
    for (uint64_t count : problem.episodes.back().tokens) tokens += static_cast<double>(count);
    tokens = std::max(1.0, tokens / num_layers_);
    const double replicas = num_ranks * static_cast<double>(shape_.slots_per_rank);
    const double most = kReplicaCostMax / static_cast<double>(shape_.num_experts);
    const double each =
        problem.cost.per_token > 0 ? std::min(most, problem.cost.per_expert / problem.cost.per_token / tokens) : most;
    scale /= 1 + replicas * each;
    load.replica_cost = static_cast<int64_t>(each * scale);
  }
  for (size_t e = 0; e < parts.size(); ++e) {
    if (parts[e] > 0) load.tokens[e] = std::max<int64_t>(1, static_cast<int64_t>(parts[e] * scale + 0.5));
  }
  return load;
}

void Flex::BuildTask(const Problem& problem, LayerId layer, bool whole) {
  episodes_.clear();
  const size_t num_experts = static_cast<size_t>(shape_.num_experts);
  const auto& remembered = memory_.episodes();
  const auto parts_of = [&](const EpisodeMemory::Episode& episode) {
    return std::span(episode.parts).subspan(layer.idx() * num_experts, num_experts);
  };
  double weights = 0;
  for (const auto& episode : remembered) weights += episode.weight;
  const double weight_now = weights > 0 ? options_.weight_now : 1.0;
  episodes_.push_back(Scaled(problem, filter_.Expected(layer), weight_now));
  if (!whole) return;
  std::vector<double> mean(num_experts, 0.0), parts(num_experts);
  for (const auto& episode : remembered) {
    for (size_t e = 0; e < num_experts; ++e) mean[e] += episode.weight * parts_of(episode)[e];
  }
  for (const auto& episode : remembered) {
    double sum = 0;
    for (size_t e = 0; e < num_experts; ++e) {
      const double middle = mean[e] / weights;
      parts[e] = std::max(0.0, middle + options_.exaggeration * (parts_of(episode)[e] - middle));
      sum += parts[e];
    }
    for (double& part : parts) part = sum > 0 ? part / sum : 0;
    episodes_.push_back(Scaled(problem, parts, (1 - weight_now) * episode.weight / weights));
  }
}

// Whether experts, pins or protection are missing; of protection, whatever the slots allow.
bool Flex::IsOwed(const Problem& problem, LayerId layer, const Placement& placement) {
  if (!HoldsEverything(problem, layer, placement)) return true;
  if (!problem.survive.any()) return false;
  const Protection protection(problem);
  return std::ranges::min(protection.LevelsOf(placement)) < protection.num_levels();
}

Placement Flex::WithWhatIsOwed(const Problem& problem, LayerId layer, const Placement& placement) {
  heat_.clear();
  for (const double part : filter_.Expected(layer)) heat_.push_back(static_cast<uint64_t>(part * kHeatUnits));
  const bool repairs = !HoldsEverything(problem, layer, placement);
  LayerCosts costs(problem, repairs ? problem.episodes.back().layer(layer) : std::span<const uint64_t>(heat_));
  costs.Reset(placement);
  if (repairs) RepairLayer(problem, layer, costs);
  SecureLayer(problem, layer, {.may_take_from_colder = false}, costs);
  return costs.placement();
}

void Flex::SetPinsAndHomes(const Problem& problem, LayerId layer, const Placement& placement) {
  pinned_.clear();
  home_node_.clear();
  for (const Pin& pin : problem.pins) {
    if (pin.layer != layer) continue;
    pinned_.resize(static_cast<size_t>(shape_.num_slots()), 0);
    for (int local = 0; local < shape_.slots_per_rank; ++local) {
      const SlotIdx slot = shape_.SlotAt(pin.rank, local);
      if (placement.expert_of_slot[slot.idx()] == pin.expert) pinned_[slot.idx()] = 1;
    }
  }
  if (!KeepsGroups(problem)) return;
  // A group of experts lives where most of its replicas are.
  const size_t num_groups = static_cast<size_t>(problem.num_expert_groups);
  const size_t num_nodes = static_cast<size_t>(problem.num_nodes);
  const size_t group_size = static_cast<size_t>(shape_.num_experts) / num_groups;
  std::vector<int> held(num_groups * num_nodes, 0);
  for (size_t s = 0; s < placement.expert_of_slot.size(); ++s) {
    const ExpertId expert = placement.expert_of_slot[s];
    if (!expert.valid()) continue;
    const size_t rank = shape_.RankOf(SlotIdx(static_cast<int32_t>(s))).idx();
    ++held[expert.idx() / group_size * num_nodes + static_cast<size_t>(ground_.node_of_rank[rank])];
  }
  for (size_t group = 0; group < num_groups; ++group) {
    const auto first = held.begin() + static_cast<std::ptrdiff_t>(group * num_nodes);
    const auto most = std::max_element(first, first + static_cast<std::ptrdiff_t>(num_nodes));
    home_node_.insert(home_node_.end(), group_size, static_cast<int32_t>(most - first));
  }
}

double Flex::Measure(const Problem& problem, LayerId layer, const Placement& placement) {
  Ground(problem);
  return MeasureNow(problem, layer, placement);
}

double Flex::MeasureNow(const Problem& problem, LayerId layer, const Placement& placement) {
  PlacementSearch search(ground_);
  Remembered& known = remembered_[layer.idx()];
  const bool is_known = known.version == memory_.version() && known.placement == placement;
  BuildTask(problem, layer, !is_known);
  const auto all = std::span<const WeightedLoad>(episodes_);
  if (!is_known) {
    known = {.version = memory_.version(), .placement = placement, .measure = 0};
    known.measure = search.Measure(shape_, placement, {.episodes = all.subspan(1)});
  }
  return known.measure + search.Measure(shape_, placement, {.episodes = all.first(1)});
}

Shares Flex::SharesFor(const Problem& problem, LayerId layer, const Placement& placement,
                       std::span<const double> previous) {
  Ground(problem);
  const WeightedLoad load = Scaled(problem, filter_.Expected(layer), 1);
  LevelSolver solver(ground_.speeds);
  solver.Wire(shape_, placement);
  std::vector<int64_t> start;
  if (!previous.empty()) {
    const Replicas replicas = Invert(placement, shape_.num_experts);
    EVENKEEL_CHECK(previous.size() == replicas.slots.size());
    start.assign(placement.expert_of_slot.size(), 0);
    for (size_t i = 0; i < previous.size(); ++i) {
      const SlotIdx slot = replicas.slots[i];
      const int64_t tokens = load.tokens[placement.expert_of_slot[slot.idx()].idx()];
      start[slot.idx()] = static_cast<int64_t>(previous[i] * static_cast<double>(tokens));
    }
  }
  solver.Solve(load.tokens, load.replica_cost, start);
  return solver.SharesOf();
}

absl::StatusOr<Flex::Improvement> Flex::ImproveLayer(const Problem& problem, LayerId layer, int moves_max,
                                                     int num_openings) {
  const Placement& current = problem.current[layer.idx()];
  Improvement improvement{.layer = layer, .placement = current};
  Placement& placement = improvement.placement;
  BlankDeadRanks(problem, placement);
  BlankDoubles(shape_, placement);
  if (IsOwed(problem, layer, placement)) placement = WithWhatIsOwed(problem, layer, placement);
  moves_max -= CountMoves(shape_, current, placement);
  SetPinsAndHomes(problem, layer, placement);
  BuildTask(problem, layer, true);
  const Protection protection(problem);
  levels_ = problem.survive.any() ? protection.LevelsOf(placement) : std::vector<int>();
  const PlacementSearch::Task task{.episodes = episodes_,
                                   .pinned = pinned_,
                                   .home_node = home_node_,
                                   .protection = problem.survive.any() ? &protection : nullptr,
                                   .levels = levels_};
  const SearchLimits limits{.moves_max = moves_max,
                            .gain_min = options_.gain_min,
                            .num_candidates = options_.num_candidates,
                            .num_openings = num_openings};
  LayerSlots slots(shape_, placement);
  PlacementSearch search(ground_);
  improvement.before = search.Measure(shape_, placement, task);
  search.Improve(task, limits, slots, improvement.after);
  placement = slots.placement();
  improvement.num_moves = CountMoves(shape_, current, placement);
  return improvement;
}

absl::StatusOr<std::vector<Flex::Improvement>> Flex::ImproveBy(const Problem& problem) {
  EVENKEEL_RETURN_IF_ERROR(Validate(problem));
  EVENKEEL_RETURN_IF_ERROR(ValidateRoomForPins(problem));
  Ground(problem);
  std::vector<Improvement> improvements;
  for (LayerId layer : PlannedLayers(problem)) {
    EVENKEEL_ASSIGN_OR_RETURN(Improvement improvement,
                              ImproveLayer(problem, layer, problem.MovesMax(layer), options_.num_openings));
    if (improvement.placement != problem.current[layer.idx()]) improvements.push_back(std::move(improvement));
  }
  return improvements;
}

absl::StatusOr<std::vector<Flex::Improvement>> Flex::Improve(const Problem& problem) {
  EVENKEEL_RETURN_IF_ERROR(Validate(problem));
  EVENKEEL_RETURN_IF_ERROR(ValidateRoomForPins(problem));
  if (problem.current.empty()) return absl::InvalidArgumentError("flex: current: there is nothing to improve");
  Ground(problem);
  const bool is_free = IsFreePeriod();
  std::vector<Need> needs;
  for (LayerId layer : PlannedLayers(problem)) {
    Placement placement = problem.current[layer.idx()];
    BlankDeadRanks(problem, placement);
    BlankDoubles(shape_, placement);
    Need need{.layer = layer};
    need.must_act = placement != problem.current[layer.idx()] ||
                    (IsOwed(problem, layer, placement) && WithWhatIsOwed(problem, layer, placement) != placement);
    if (!need.must_act) {
      if (!is_free && moves_saved_[layer.idx()] < 1) continue;
      need.measure = MeasureNow(problem, layer, placement);
      double& idle = idle_measure_[layer.idx()];
      idle = std::min(idle, need.measure);
      const bool was_in_vain = need.measure < idle + kRetryRise * options_.gain_min;
      if (need.measure < 1 + options_.gain_min || (was_in_vain && !is_free)) continue;
    }
    needs.push_back(need);
  }
  std::ranges::stable_sort(needs, [](const Need& a, const Need& b) {
    if (a.must_act != b.must_act) return a.must_act;
    return a.measure > b.measure;
  });
  std::vector<Improvement> improvements;
  for (size_t i = 0; i < needs.size(); ++i) {
    const LayerId layer = needs[i].layer;
    const bool is_turn = is_free || options_.layers_per_step == 0 || i < static_cast<size_t>(options_.layers_per_step);
    if (!is_turn && !needs[i].must_act) break;
    double& saved = moves_saved_[layer.idx()];
    const int allowed = std::min(problem.MovesMax(layer), is_free ? shape_.num_slots() : static_cast<int>(saved));
    EVENKEEL_ASSIGN_OR_RETURN(Improvement improvement,
                              ImproveLayer(problem, layer, allowed, is_free ? options_.num_openings : 0));
    if (improvement.placement == problem.current[layer.idx()]) {
      idle_measure_[layer.idx()] = improvement.after;
      continue;
    }
    idle_measure_[layer.idx()] = 0;
    if (!is_free) saved = std::max(0.0, saved - improvement.num_moves);
    improvements.push_back(std::move(improvement));
  }
  std::ranges::sort(improvements, {}, &Improvement::layer);
  return improvements;
}

}  // namespace evenkeel::algos
