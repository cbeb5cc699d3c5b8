// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/repair/part_problem.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>

#include "algos/base/check.h"
#include "algos/policies/repair/layer_costs.h"
#include "algos/policies/repair/repair.h"

namespace evenkeel::algos {

namespace {

// Groups stay on their nodes while the heaviest node is at most this much heavier than if they were packed anew.
constexpr double kWorthStaying = 1.05;

// The experts of a layer in a part: all of them where the part names none.
std::vector<ExpertId> ExpertsOf(const Problem& problem, const Part& part, size_t layer) {
  if (!part.experts.empty()) return part.experts[layer];
  std::vector<ExpertId> experts;
  for (int e = 0; e < problem.shape.num_experts; ++e) experts.push_back(ExpertId(e));
  return experts;
}

Load LoadOf(const Load& load, const Problem& problem, const Part& part) {
  if (part.experts.empty()) return load;
  Load mine{.num_layers = load.num_layers, .num_experts = static_cast<int>(part.experts.front().size())};
  for (int layer = 0; layer < load.num_layers; ++layer) {
    const auto tokens = load.layer(LayerId(layer));
    for (ExpertId expert : ExpertsOf(problem, part, static_cast<size_t>(layer))) {
      mine.tokens.push_back(tokens[expert.idx()]);
    }
  }
  return mine;
}

Placement CurrentOf(const Problem& problem, const Part& part, size_t layer) {
  std::vector<ExpertId> renamed(static_cast<size_t>(problem.shape.num_experts), kNoExpert);
  const std::vector<ExpertId> experts = ExpertsOf(problem, part, layer);
  for (size_t i = 0; i < experts.size(); ++i) renamed[experts[i].idx()] = ExpertId(static_cast<int32_t>(i));
  Placement mine;
  for (RankId rank : part.ranks) {
    for (int i = 0; i < problem.shape.slots_per_rank; ++i) {
      const ExpertId expert = problem.current[layer].expert_of_slot[problem.shape.SlotAt(rank, i).idx()];
      mine.expert_of_slot.push_back(expert.valid() ? renamed[expert.idx()] : kNoExpert);
    }
  }
  return mine;
}

// The node of each group where all its experts are on one node and every node has equally many; else empty.
std::vector<size_t> CurrentNodes(const Problem& problem, LayerId layer) {
  const size_t num_nodes = static_cast<size_t>(problem.num_nodes);
  const size_t num_groups = static_cast<size_t>(problem.num_expert_groups);
  if (problem.current.empty()) return {};
  std::vector<size_t> node_of(num_groups, num_nodes), count(num_nodes, 0);
  const int group_size = problem.shape.num_experts / problem.num_expert_groups;
  const int slots_per_node = problem.shape.num_slots() / problem.num_nodes;
  for (int s = 0; s < problem.shape.num_slots(); ++s) {
    const ExpertId expert = problem.current[layer.idx()].expert_of_slot[static_cast<size_t>(s)];
    if (!expert.valid()) continue;
    size_t& node = node_of[static_cast<size_t>(expert.value() / group_size)];
    const size_t here = static_cast<size_t>(s / slots_per_node);
    if (node != num_nodes && node != here) return {};
    node = here;
  }
  for (size_t node : node_of) {
    if (node == num_nodes || ++count[node] > num_groups / num_nodes) return {};
  }
  return node_of;
}

std::vector<double> GroupWeights(const Problem& problem, std::span<const uint64_t> tokens) {
  std::vector<double> weights(static_cast<size_t>(problem.num_expert_groups), 0.0);
  const size_t group_size = tokens.size() / weights.size();
  for (size_t e = 0; e < tokens.size(); ++e) weights[e / group_size] += static_cast<double>(tokens[e]);
  return weights;
}

double HeaviestNode(const std::vector<double>& weights, const std::vector<size_t>& node_of, size_t num_nodes) {
  std::vector<double> loads(num_nodes, 0.0);
  for (size_t group = 0; group < weights.size(); ++group) loads[node_of[group]] += weights[group];
  return *std::ranges::max_element(loads);
}

std::vector<size_t> PackedNodes(const std::vector<double>& weights, size_t num_nodes) {
  const size_t num_groups = weights.size();
  std::vector<double> loads(num_nodes, 0.0);
  std::vector<size_t> order(num_groups), node_of(num_groups), count(num_nodes, 0);
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return weights[a] > weights[b]; });
  for (size_t group : order) {
    size_t best = num_nodes;
    for (size_t node = 0; node < num_nodes; ++node) {
      if (count[node] == num_groups / num_nodes) continue;
      if (best == num_nodes || loads[node] < loads[best]) best = node;
    }
    node_of[group] = best;
    loads[best] += weights[group];
    ++count[best];
  }
  return node_of;
}

}  // namespace

Problem PartOf(const Problem& problem, const Part& part) {
  Problem mine{.shape = problem.shape,
               .num_layers = problem.num_layers,
               .num_nodes = part.num_nodes,
               .num_expert_groups = part.num_expert_groups,
               .layers = problem.layers,
               .cost = problem.cost};
  mine.shape.num_ranks = static_cast<int>(part.ranks.size());
  if (!part.experts.empty()) mine.shape.num_experts = static_cast<int>(part.experts.front().size());
  for (const Load& load : problem.episodes) mine.episodes.push_back(LoadOf(load, problem, part));
  if (!problem.capacities.empty()) {
    for (RankId rank : part.ranks) mine.capacities.push_back(problem.capacities[rank.idx()]);
  }
  if (problem.current.empty()) return mine;
  const Load total = TotalLoad(mine);
  for (size_t layer = 0; layer < problem.current.size(); ++layer) {
    LayerCosts costs(mine, total.layer(LayerId(static_cast<int32_t>(layer))));
    costs.Reset(CurrentOf(problem, part, layer));
    RepairLayer(mine, LayerId(static_cast<int32_t>(layer)), costs);
    FillBlanks(mine, costs);
    mine.current.push_back(costs.placement());
  }
  return mine;
}

Part LivingRanks(const Problem& problem) {
  Part part;
  std::vector<int> on_node(static_cast<size_t>(problem.num_nodes), 0);
  for (int rank = 0; rank < problem.shape.num_ranks; ++rank) {
    if (!problem.IsLive(RankId(rank))) continue;
    part.ranks.push_back(RankId(rank));
    ++on_node[static_cast<size_t>(rank / (problem.shape.num_ranks / problem.num_nodes))];
  }
  std::erase(on_node, 0);
  if (std::ranges::all_of(on_node, [&](int count) { return count == on_node.front(); })) {
    part.num_nodes = static_cast<int>(on_node.size());
    part.num_expert_groups = problem.num_expert_groups;
  }
  return part;
}

bool KeepsGroups(const Problem& problem) {
  return problem.num_nodes > 1 && problem.num_expert_groups > 1 && problem.num_expert_groups % problem.num_nodes == 0 &&
         problem.num_live_ranks() == problem.shape.num_ranks;
}

std::vector<Part> NodesWithGroups(const Problem& problem) {
  EVENKEEL_CHECK(KeepsGroups(problem));
  const Load total = TotalLoad(problem);
  std::vector<Part> parts(static_cast<size_t>(problem.num_nodes));
  for (int rank = 0; rank < problem.shape.num_ranks; ++rank) {
    parts[static_cast<size_t>(rank / (problem.shape.num_ranks / problem.num_nodes))].ranks.push_back(RankId(rank));
  }
  const int group_size = problem.shape.num_experts / problem.num_expert_groups;
  for (int layer = 0; layer < problem.num_layers; ++layer) {
    const std::vector<double> weights = GroupWeights(problem, total.layer(LayerId(layer)));
    std::vector<size_t> node_of = PackedNodes(weights, parts.size());
    const std::vector<size_t> now = CurrentNodes(problem, LayerId(layer));
    if (!now.empty() &&
        HeaviestNode(weights, now, parts.size()) <= kWorthStaying * HeaviestNode(weights, node_of, parts.size())) {
      node_of = now;
    }
    for (Part& part : parts) part.experts.emplace_back();
    for (int e = 0; e < problem.shape.num_experts; ++e) {
      parts[node_of[static_cast<size_t>(e / group_size)]].experts.back().push_back(ExpertId(e));
    }
  }
  return parts;
}

void Embed(const Placement& planned, const Problem& problem, const Part& part, LayerId layer, Placement& whole) {
  const size_t count = static_cast<size_t>(problem.shape.slots_per_rank);
  for (size_t i = 0; i < part.ranks.size() * count; ++i) {
    const SlotIdx slot = problem.shape.SlotAt(part.ranks[i / count], static_cast<int>(i % count));
    const ExpertId expert = planned.expert_of_slot[i];
    const bool same = part.experts.empty() || !expert.valid();
    whole.expert_of_slot[slot.idx()] = same ? expert : part.experts[layer.idx()][expert.idx()];
  }
}

}  // namespace evenkeel::algos
