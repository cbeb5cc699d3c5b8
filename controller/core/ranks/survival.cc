// SPDX-License-Identifier: Apache-2.0
#include "controller/core/ranks/survival.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/policies/repair/layer_costs.h"
#include "algos/policies/repair/protection.h"
#include "algos/policies/repair/repair.h"
#include "algos/policies/repair/secure.h"

namespace evenkeel::controller {

namespace {

constexpr size_t kExpertsNamed = 8;
constexpr size_t kLayersNamed = 3;

bool InView(const GroupState& group, RankId rank) {
  const View& view = group.publisher.view();
  if (view.members.empty()) return rank.value() < group.info.num_first_ranks();
  return std::ranges::any_of(view.members, [&](const Member& member) { return member.rank == rank; });
}

std::vector<int> UsableSlots(const GroupState& group, LayerId layer) {
  const algos::Shape& shape = group.info.shape;
  std::vector<int> usable(static_cast<size_t>(shape.num_ranks), 0);
  for (int rank = 0; rank < shape.num_ranks; ++rank) {
    if (!InView(group, RankId(rank))) continue;
    for (int local = 0; local < shape.slots_per_rank; ++local) {
      const Slot& slot = group.slots.at(layer, shape.SlotAt(RankId(rank), local));
      usable[static_cast<size_t>(rank)] += slot.use == SlotUse::kCondemned ? 0 : 1;
    }
  }
  return usable;
}

// What is asked, of the ranks that take part.
algos::Problem Asked(const GroupState& group) {
  algos::Problem problem;
  problem.shape = group.info.shape;
  problem.num_layers = group.info.num_layers;
  problem.num_nodes = group.info.num_nodes;
  problem.hosts = HostsOf(group);
  problem.survive = group.settings.planning.survive;
  for (int rank = 0; rank < problem.shape.num_ranks; ++rank) problem.dead_ranks.push_back(!InView(group, RankId(rank)));
  return problem;
}

std::string CountOf(int count, absl::string_view what) { return absl::StrCat(count, " ", what, count == 1 ? "" : "s"); }

std::string TextOf(const algos::Survive& survive) {
  std::string text;
  if (survive.ranks > 0) text = absl::StrCat("any ", CountOf(survive.ranks, "rank"));
  if (survive.hosts > 0) {
    absl::StrAppend(&text, text.empty() ? "" : " and ", "any ", CountOf(survive.hosts, "host"));
  }
  return text;
}

std::string Listed(const std::vector<ExpertId>& experts) {
  std::string text;
  for (size_t i = 0; i < std::min(experts.size(), kExpertsNamed); ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ", ", experts[i].value());
  }
  if (experts.size() > kExpertsNamed) absl::StrAppend(&text, " and ", experts.size() - kExpertsNamed, " more");
  return text;
}

// "" where every layer is as asked.
std::string Shortfall(const GroupState& group, const RedundancyReport& report) {
  std::string named;
  size_t num_short = 0;
  for (const LayerRedundancy& layer : report.layers) {
    if (layer.experts_at_risk.empty()) continue;
    if (++num_short > kLayersNamed) continue;
    absl::StrAppend(&named, "; layer ", layer.layer.value(), ": ",
                    layer.experts_at_risk.size() == 1 ? "expert " : "experts ", Listed(layer.experts_at_risk));
  }
  if (num_short == 0) return {};
  return absl::StrCat("asked to survive the loss of ", TextOf(group.settings.planning.survive), ": ", num_short, " of ",
                      report.layers.size(), " layers do not", named,
                      num_short > kLayersNamed ? "; and further layers" : "");
}

}  // namespace

std::vector<int32_t> HostsOf(const GroupState& group) {
  const int num_ranks = group.info.shape.num_ranks, ranks_per_node = num_ranks / group.info.num_nodes;
  std::vector<std::string> names;
  std::vector<int32_t> hosts;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const std::vector<Endpoint>& endpoints = group.members.at(RankId(rank)).endpoints;
    std::string name = absl::StrCat("/node ", rank / ranks_per_node);  // no host is called so
    for (const Endpoint& endpoint : endpoints) {
      if (endpoint.host.empty()) continue;
      name = endpoint.host;
      break;
    }
    hosts.push_back(static_cast<int32_t>(std::ranges::find(names, name) - names.begin()));
    if (hosts.back() == static_cast<int32_t>(names.size())) names.push_back(std::move(name));
  }
  return hosts;
}

algos::LayerMap MapInForce(const GroupState& group, LayerId layer) {
  if (group.publisher.published()) return group.publisher.map(layer);
  return algos::EvenMap(algos::DefaultPlacement(group.info.shape, group.info.world), group.info.shape.num_experts);
}

algos::Survivability SurvivalOf(const GroupState& group, LayerId layer, const algos::LayerMap& map) {
  return algos::SurvivabilityOf(algos::PlacementOf(map, group.info.shape.num_slots()), group.info.shape, HostsOf(group),
                                UsableSlots(group, layer));
}

bool OwesProtection(const algos::Problem& problem, LayerId layer) {
  if (!problem.survive.any()) return false;
  algos::Placement start = problem.current[layer.idx()];
  algos::BlankDeadRanks(problem, start);
  const algos::Protection protection(problem);
  const std::vector<int> levels = protection.LevelsOf(start);
  // Experts without a replica are another's matter, and come first.
  if (std::ranges::min(levels) < 0 || std::ranges::min(levels) == protection.num_levels()) return false;
  const std::vector<uint64_t> even(levels.size(), 1);
  algos::LayerCosts costs(problem, even);
  costs.Reset(start);
  algos::SecureLayer(problem, layer, {.may_take_from_colder = false}, costs);
  return costs.placement() != start;
}

bool OwesProtection(const GroupState& group) {
  algos::Problem problem = Asked(group);
  if (!problem.survive.any()) return false;
  for (int l = 0; l < group.info.num_layers; ++l) problem.current.push_back(group.slots.LiveAndComing(LayerId(l)));
  for (int l = 0; l < group.info.num_layers; ++l) {
    if (OwesProtection(problem, LayerId(l))) return true;
  }
  return false;
}

int NumProtectedMore(const algos::Problem& problem, LayerId layer, const algos::Placement& target) {
  if (!problem.survive.any()) return 0;
  const algos::Protection protection(problem);
  const std::vector<int> before = protection.LevelsOf(problem.current[layer.idx()]);
  const std::vector<int> after = protection.LevelsOf(target);
  int num_more = 0;
  for (size_t e = 0; e < before.size(); ++e) {
    if (after[e] < before[e]) return 0;
    num_more += after[e] > before[e] ? 1 : 0;
  }
  return num_more;
}

void ReportSurvival(const GroupState& group, RedundancyReport& report) {
  const algos::Problem asked = Asked(group);
  report.survive_asked = asked.survive;
  const int num_ranks = group.info.shape.num_ranks;
  algos::Losses ranks{.serving = num_ranks, .rebalancing = num_ranks, .at_risk = {}}, hosts = ranks;
  const auto lower = [](algos::Losses& of_all, const algos::Losses& of_layer) {
    of_all.serving = std::min(of_all.serving, of_layer.serving);
    of_all.rebalancing = std::min(of_all.rebalancing, of_layer.rebalancing);
  };
  for (LayerRedundancy& layer : report.layers) {
    const algos::LayerMap map = MapInForce(group, layer.layer);
    const algos::Survivability found = SurvivalOf(group, layer.layer, map);
    layer.ranks_may_be_lost_at_once = std::max(found.ranks.serving, 0);
    layer.hosts_may_be_lost_at_once = std::max(found.hosts.serving, 0);
    lower(ranks, found.ranks);
    lower(hosts, found.hosts);
    layer.experts_at_risk = algos::ExpertsAtRisk(asked, algos::PlacementOf(map, group.info.shape.num_slots()));
  }
  report.ranks_may_be_lost_at_once = std::max(ranks.serving, 0);
  report.ranks_may_be_lost_at_once_rebalancing = std::max(ranks.rebalancing, 0);
  report.hosts_may_be_lost_at_once = std::max(hosts.serving, 0);
  report.hosts_may_be_lost_at_once_rebalancing = std::max(hosts.rebalancing, 0);
  if (!asked.survive.any()) return;
  if (std::string text = Shortfall(group, report); !text.empty()) report.problems.push_back(std::move(text));
}

void AnnounceSurvival(GroupState& group, absl::Time now, Effects& effects) {
  const algos::Problem asked = Asked(group);
  if (!asked.survive.any()) return;
  const algos::Protection protection(asked);
  const int full = std::max(asked.survive.ranks, asked.survive.hosts);
  const int64_t room = int64_t{asked.num_live_ranks()} * asked.shape.slots_per_rank;
  const int64_t spare = room - asked.shape.num_experts;
  const int64_t needed = int64_t{full} * asked.shape.num_experts;
  const Alerts::Lasts always = [](const GroupState&) { return true; };  // as long as the group is what it is
  if (protection.num_levels() < full) {
    group.Alert(
        absl::StrCat("asked to survive the loss of ", TextOf(asked.survive), ", which are more than would leave one"),
        always, effects);
  } else if (spare < needed) {
    group.Alert(absl::StrCat("asked to survive the loss of ", TextOf(asked.survive), ", which takes ", needed,
                             " slots beyond one for each expert; a layer has ", spare,
                             ": the experts with most tokens are protected first, check names the others"),
                always, effects);
  } else {
    effects.push_back(Note{group.info.name, absl::StrCat("is to survive the loss of ", TextOf(asked.survive))});
  }
  if (group.PlacementOn() && OwesProtection(group)) {
    group.next_placement = std::min(group.next_placement, now + group.settings.window);
  }
}

}  // namespace evenkeel::controller
