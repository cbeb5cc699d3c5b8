// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/greedy.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/ids.h"
#include "algos/base/status_macros.h"
#include "algos/policies/distinct_packer.h"
#include "algos/policies/relabel.h"

namespace evenkeel::algos {

namespace {

constexpr int kCountMax = (1 << 24) - 1;

class GreedyPlanner {
 public:
  explicit GreedyPlanner(const Problem& problem) : problem_(problem), load_(TotalLoad(problem)), relabeler_(cluster_) {
    const int ranks_per_node = problem.shape.num_ranks / problem.num_nodes;
    cluster_.shape = problem.shape;
    cluster_.nodes.resize(static_cast<size_t>(problem.num_nodes));
    for (int rank = 0; rank < problem.shape.num_ranks; ++rank) {
      node_of_rank_.push_back(static_cast<uint32_t>(rank / ranks_per_node));
      if (!problem.IsLive(RankId(rank))) continue;
      live_ranks_.push_back(RankId(rank));
      cluster_.nodes[node_of_rank_.back()].push_back(RankId(rank));
    }
    for (int e = 0; e < problem.shape.num_experts; ++e) experts_.push_back(ExpertId(e));
    hierarchical_ = problem.num_expert_groups > 1 && problem.num_expert_groups % problem.num_nodes == 0 &&
                    static_cast<int>(live_ranks_.size()) == problem.shape.num_ranks;
    contents_.resize(static_cast<size_t>(problem.shape.num_ranks));
  }

  Placement Plan(LayerId layer) {
    ScaleWeights(load_.layer(layer), weights_);
    for (auto& content : contents_) content.clear();
    if (hierarchical_) {
      PackByNode();
    } else {
      packer_.Pack(experts_, weights_, TargetOf(live_ranks_), contents_);
    }
    const Placement* current = problem_.current.empty() ? nullptr : &problem_.current[layer.idx()];
    Placement planned = relabeler_.Apply(contents_, current);
    if (current != nullptr && IsWorthKeeping(*current, planned)) return *current;
    return planned;
  }

 private:
  PackTarget TargetOf(std::span<const RankId> ranks) const {
    return {.ranks = ranks, .node = node_of_rank_, .slots_per_rank = problem_.shape.slots_per_rank};
  }

  // Heaviest groups first, to the lightest node that has not its number of groups yet; then each node apart.
  void PackByNode() {
    const size_t num_groups = static_cast<size_t>(problem_.num_expert_groups);
    const size_t num_nodes = cluster_.nodes.size(), group_size = experts_.size() / num_groups;
    std::vector<std::pair<uint64_t, size_t>> groups(num_groups);
    for (size_t e = 0; e < experts_.size(); ++e) groups[e / group_size].first += weights_[e];
    for (size_t g = 0; g < num_groups; ++g) groups[g].second = g;
    std::stable_sort(groups.begin(), groups.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    std::vector<uint64_t> loads(num_nodes, 0);
    std::vector<std::vector<ExpertId>> experts_of(num_nodes);
    for (const auto& [weight, group] : groups) {
      size_t best = num_nodes;
      for (size_t node = 0; node < num_nodes; ++node) {
        if (experts_of[node].size() == experts_.size() / num_nodes) continue;
        if (best == num_nodes || loads[node] < loads[best]) best = node;
      }
      loads[best] += weight;
      const auto members = std::span(experts_).subspan(group * group_size, group_size);
      experts_of[best].insert(experts_of[best].end(), members.begin(), members.end());
    }
    for (size_t node = 0; node < num_nodes; ++node) {
      std::sort(experts_of[node].begin(), experts_of[node].end());
      packer_.Pack(experts_of[node], weights_, TargetOf(cluster_.nodes[node]), contents_);
    }
  }

  // Obeys every rule of the header, uses as many slots, and its heaviest rank is no heavier.
  bool IsWorthKeeping(const Placement& current, const Placement& planned) {
    return ObeysRules(current, planned) && HeaviestRank(current) <= HeaviestRank(planned);
  }

  bool ObeysRules(const Placement& current, const Placement& planned) {
    const Shape& shape = problem_.shape;
    counts_.assign(experts_.size(), 0);
    last_rank_.assign(experts_.size(), RankId());
    const auto num_blank = [](const Placement& placement) {
      return std::count(placement.expert_of_slot.begin(), placement.expert_of_slot.end(), kNoExpert);
    };
    if (num_blank(current) > num_blank(planned)) return false;
    for (size_t s = 0; s < current.expert_of_slot.size(); ++s) {
      const ExpertId expert = current.expert_of_slot[s];
      if (expert == kNoExpert) continue;
      const RankId rank = shape.RankOf(SlotIdx(static_cast<int32_t>(s)));
      RankId& last = last_rank_[expert.idx()];
      if (!problem_.IsLive(rank) || last == rank) return false;
      if (hierarchical_ && !StaysOnNode(expert, rank)) return false;
      last = rank;
      ++counts_[expert.idx()];
    }
    return std::all_of(counts_.begin(), counts_.end(), [](uint32_t count) { return count > 0; });
  }

  // The first expert of a group that is met says which node the group is on.
  bool StaysOnNode(ExpertId expert, RankId rank) {
    const size_t group_size = experts_.size() / static_cast<size_t>(problem_.num_expert_groups);
    const size_t first = expert.idx() / group_size * group_size;
    for (size_t e = first; e < first + group_size; ++e) {
      if (last_rank_[e].valid() && node_of_rank_[last_rank_[e].idx()] != node_of_rank_[rank.idx()]) return false;
    }
    return true;
  }

  // Requires: every expert of the layer in `placement`.
  uint64_t HeaviestRank(const Placement& placement) {
    counts_.assign(experts_.size(), 0);
    for (ExpertId expert : placement.expert_of_slot) {
      if (expert != kNoExpert) ++counts_[expert.idx()];
    }
    uint64_t heaviest = 0;
    const size_t slots_per_rank = static_cast<size_t>(problem_.shape.slots_per_rank);
    for (size_t first = 0; first < placement.expert_of_slot.size(); first += slots_per_rank) {
      uint64_t load = 0;
      for (ExpertId expert : std::span(placement.expert_of_slot).subspan(first, slots_per_rank)) {
        if (expert != kNoExpert) load += weights_[expert.idx()] / counts_[expert.idx()];
      }
      heaviest = std::max(heaviest, load);
    }
    return heaviest;
  }

  const Problem& problem_;
  const Load load_;
  bool hierarchical_ = false;
  std::vector<ExpertId> experts_;  // all
  std::vector<RankId> live_ranks_;
  std::vector<uint32_t> node_of_rank_;
  Cluster cluster_;
  Relabeler relabeler_;
  DistinctPacker packer_;

  // Of the layer at hand.
  std::vector<uint64_t> weights_;
  std::vector<std::vector<ExpertId>> contents_;
  std::vector<uint32_t> counts_;
  std::vector<RankId> last_rank_;
};

}  // namespace

absl::StatusOr<std::vector<Placement>> PlanGreedy(const Problem& problem) {
  EVENKEEL_RETURN_IF_ERROR(Validate(problem));
  if (problem.shape.num_experts > kCountMax || problem.shape.num_ranks > kCountMax) {
    return absl::InvalidArgumentError(absl::StrCat("greedy: ", problem.shape.num_experts, " experts on ",
                                                   problem.shape.num_ranks, " ranks; at most ", kCountMax));
  }
  GreedyPlanner planner(problem);
  std::vector<Placement> placements = problem.current;
  placements.resize(static_cast<size_t>(problem.num_layers));
  for (LayerId layer : PlannedLayers(problem)) placements[layer.idx()] = planner.Plan(layer);
  return placements;
}

absl::StatusOr<std::vector<LayerPlan>> GreedyPolicy(const Problem& problem, const PolicyConfig& config) {
  EVENKEEL_RETURN_IF_ERROR(ReadOptions("greedy", {}, config).status());
  absl::StatusOr<std::vector<Placement>> placements = PlanGreedy(problem);
  if (!placements.ok()) return placements.status();
  return WithEvenShares(*std::move(placements));
}

}  // namespace evenkeel::algos
