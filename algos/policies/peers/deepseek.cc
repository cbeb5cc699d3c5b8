// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/deepseek.h"

#include <algorithm>
#include <bit>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"
#include "algos/base/status_macros.h"
#include "algos/policies/ordering.h"

namespace evenkeel::algos {

namespace {

// Weights are never negative, so their bits compare as they do. The index in the low word settles ties.
uint64_t LightestFirst(float weight, size_t idx) { return uint64_t{std::bit_cast<uint32_t>(weight)} << 32 | idx; }
uint64_t HeaviestFirst(float weight, size_t idx) { return uint64_t{~std::bit_cast<uint32_t>(weight)} << 32 | idx; }
size_t IdxOf(uint64_t key) { return key & 0xFFFFFFFFu; }

// Plans one layer after another; storage is kept between them.
class LayerPlanner {
 public:
  LayerPlanner(int num_experts, const DeepseekOptions& options)
      : num_experts_(static_cast<size_t>(num_experts)),
        num_replicas_(static_cast<size_t>(options.num_replicas)),
        num_groups_(static_cast<size_t>(options.num_groups)),
        num_nodes_(static_cast<size_t>(options.num_nodes)),
        num_gpus_(static_cast<size_t>(options.num_gpus)),
        expert_of_slot_(num_replicas_),
        replica_of_slot_(num_replicas_),
        weights_(num_experts_),
        expert_of_position_(num_experts_) {
    if (num_groups_ % num_nodes_ != 0) num_groups_ = num_nodes_ = 1;
  }

  void Plan(std::span<const uint64_t> tokens) {
    for (size_t e = 0; e < num_experts_; ++e) weights_[e] = static_cast<float>(tokens[e]);
    PackGroups();
    for (size_t node = 0; node < num_nodes_; ++node) PlanNode(node);
  }

  std::span<const int32_t> expert_of_slot() const { return expert_of_slot_; }
  std::span<const int32_t> replica_of_slot() const { return replica_of_slot_; }

 private:
  // Item i goes to position pack_of_[i] * (n / packs) + its rank in that pack, written to position_.
  void Pack(std::span<const float> weights, size_t num_packs) {
    const size_t n = weights.size(), room = n / num_packs;
    position_.resize(n);
    if (room == 1 || num_packs == 1) {
      PackTrivially(weights, room);
      return;
    }
    SortByWeight(weights);
    fill_.assign(num_packs, 0);
    load_.assign(num_packs, 0.0f);
    packs_.Reset(num_packs, [](size_t pack) { return LightestFirst(0.0f, pack); });
    for (uint64_t item : sorted_) {
      const size_t i = IdxOf(item), pack = IdxOf(packs_.least());
      position_[i] = static_cast<uint32_t>(pack * room + fill_[pack]);
      load_[pack] += weights[i];
      packs_.Update(pack, ++fill_[pack] == room ? MinTree::kAbsent : LightestFirst(load_[pack], pack));
    }
  }

  // One item a pack: no sort, item i to pack i. One pack: heaviest first.
  void PackTrivially(std::span<const float> weights, size_t room) {
    if (room > 1) SortByWeight(weights);
    for (size_t i = 0; i < weights.size(); ++i) {
      position_[room > 1 ? IdxOf(sorted_[i]) : i] = static_cast<uint32_t>(i);
    }
  }

  void SortByWeight(std::span<const float> weights) {
    sorted_.resize(weights.size());
    for (size_t i = 0; i < weights.size(); ++i) sorted_[i] = HeaviestFirst(weights[i], i);
    sorter_.Sort(sorted_);
  }

  void PackGroups() {
    const size_t size = num_experts_ / num_groups_;
    group_weights_.assign(num_groups_, 0.0f);
    for (size_t e = 0; e < num_experts_; ++e) group_weights_[e / size] += weights_[e];
    Pack(group_weights_, num_nodes_);
    for (size_t e = 0; e < num_experts_; ++e) {
      expert_of_position_[position_[e / size] * size + e % size] = static_cast<uint32_t>(e);
    }
  }

  void PlanNode(size_t node) {
    const size_t n = num_experts_ / num_nodes_, p = num_replicas_ / num_nodes_;
    const auto experts = std::span(expert_of_position_).subspan(node * n, n);
    Replicate(experts, p);
    slot_weights_.resize(p);
    for (size_t s = 0; s < p; ++s) {
      const size_t item = item_of_slot_[s];
      slot_weights_[s] = weights_[experts[item]] / static_cast<float>(counts_[item]);
    }
    Pack(slot_weights_, num_gpus_ / num_nodes_);
    for (size_t s = 0; s < p; ++s) {
      const size_t at = node * p + position_[s];
      expert_of_slot_[at] = static_cast<int32_t>(experts[item_of_slot_[s]]);
      replica_of_slot_[at] = rank_of_slot_[s];
    }
  }

  // Each further slot goes to the expert with the largest load per replica.
  void Replicate(std::span<const uint32_t> experts, size_t num_slots) {
    const size_t n = experts.size();
    item_of_slot_.resize(num_slots);
    rank_of_slot_.assign(num_slots, 0);
    counts_.assign(n, 1);
    for (size_t i = 0; i < n; ++i) item_of_slot_[i] = i;
    if (num_slots == n) return;
    heaviest_.Reset(n, [&](size_t i) { return HeaviestFirst(weights_[experts[i]], i); });
    for (size_t s = n; s < num_slots; ++s) {
      const size_t i = IdxOf(heaviest_.least());
      item_of_slot_[s] = i;
      rank_of_slot_[s] = counts_[i]++;
      heaviest_.Update(i, HeaviestFirst(weights_[experts[i]] / static_cast<float>(counts_[i]), i));
    }
  }

  const size_t num_experts_, num_replicas_;
  size_t num_groups_, num_nodes_;
  const size_t num_gpus_;
  std::vector<int32_t> expert_of_slot_, replica_of_slot_;  // the result, by physical slot

  // Of the layer at hand.
  std::vector<float> weights_;                // by expert
  std::vector<uint32_t> expert_of_position_;  // node-major
  // Of the step at hand.
  std::vector<float> group_weights_, slot_weights_, load_;
  std::vector<size_t> item_of_slot_, fill_;
  std::vector<int32_t> rank_of_slot_, counts_;
  std::vector<uint32_t> position_;
  std::vector<uint64_t> sorted_;
  MinTree packs_, heaviest_;
  HighWordSorter sorter_;
};

absl::Status MustDivide(const char* what, int count, const char* into, int parts) {
  if (parts > 0 && count > 0 && count % parts == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("deepseek: ", count, " ", what, " do not divide by ", parts, " ", into));
}

absl::Status ValidateOptions(const Load& load, const DeepseekOptions& options) {
  EVENKEEL_RETURN_IF_ERROR(MustDivide("experts", load.num_experts, "groups", options.num_groups));
  EVENKEEL_RETURN_IF_ERROR(MustDivide("GPUs", options.num_gpus, "nodes", options.num_nodes));
  EVENKEEL_RETURN_IF_ERROR(MustDivide("replicas", options.num_replicas, "GPUs", options.num_gpus));
  if (options.num_replicas < load.num_experts) {
    return absl::InvalidArgumentError(
        absl::StrCat("deepseek: ", load.num_experts, " experts do not fit in ", options.num_replicas, " replicas"));
  }
  if (load.num_layers < 0 ||
      load.tokens.size() != static_cast<size_t>(load.num_layers) * static_cast<size_t>(load.num_experts)) {
    return absl::InvalidArgumentError(absl::StrCat("deepseek: load of ", load.num_layers, " layers x ",
                                                   load.num_experts, " experts has ", load.tokens.size(), " values"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DeepseekMaps> RebalanceExperts(const Load& load, const DeepseekOptions& options) {
  EVENKEEL_RETURN_IF_ERROR(ValidateOptions(load, options));
  const size_t num_layers = static_cast<size_t>(load.num_layers), num_experts = static_cast<size_t>(load.num_experts);
  const size_t num_replicas = static_cast<size_t>(options.num_replicas);
  LayerPlanner planner(load.num_experts, options);
  DeepseekMaps maps;
  maps.logical_count.assign(num_layers * num_experts, 0);
  std::vector<int32_t> replica_ranks;
  for (size_t layer = 0; layer < num_layers; ++layer) {
    planner.Plan(load.layer(LayerId(static_cast<int32_t>(layer))));
    const auto experts = planner.expert_of_slot();
    const auto ranks = planner.replica_of_slot();
    maps.physical_to_logical.insert(maps.physical_to_logical.end(), experts.begin(), experts.end());
    replica_ranks.insert(replica_ranks.end(), ranks.begin(), ranks.end());
    for (int32_t expert : experts) ++maps.logical_count[layer * num_experts + static_cast<size_t>(expert)];
  }
  for (int32_t count : maps.logical_count) maps.width = std::max(maps.width, count);
  const size_t width = static_cast<size_t>(maps.width);
  maps.logical_to_physical.assign(maps.logical_count.size() * width, -1);
  for (size_t at = 0; at < replica_ranks.size(); ++at) {
    const size_t row = at / num_replicas * num_experts + static_cast<size_t>(maps.physical_to_logical[at]);
    maps.logical_to_physical[row * width + static_cast<size_t>(replica_ranks[at])] =
        static_cast<int32_t>(at % num_replicas);
  }
  return maps;
}

absl::StatusOr<std::vector<Placement>> PlanDeepseek(const Problem& problem) {
  EVENKEEL_RETURN_IF_ERROR(Validate(problem));
  if (problem.num_live_ranks() != problem.shape.num_ranks) {
    return absl::InvalidArgumentError(absl::StrCat(
        "deepseek: cannot leave out ", problem.shape.num_ranks - problem.num_live_ranks(), " dead ranks; use greedy"));
  }
  LayerPlanner planner(problem.shape.num_experts, {.num_replicas = problem.shape.num_slots(),
                                                   .num_groups = problem.num_expert_groups,
                                                   .num_nodes = problem.num_nodes,
                                                   .num_gpus = problem.shape.num_ranks});
  const Load total = TotalLoad(problem);
  std::vector<Placement> placements = problem.current;
  placements.resize(static_cast<size_t>(problem.num_layers));
  for (LayerId layer : PlannedLayers(problem)) {
    planner.Plan(total.layer(layer));
    std::vector<ExpertId>& experts = placements[layer.idx()].expert_of_slot;
    experts.clear();
    experts.reserve(static_cast<size_t>(problem.shape.num_slots()));
    for (int32_t expert : planner.expert_of_slot()) experts.push_back(ExpertId(expert));
  }
  return placements;
}

absl::StatusOr<std::vector<LayerPlan>> DeepseekPolicy(const Problem& problem, const PolicyConfig& config) {
  EVENKEEL_RETURN_IF_ERROR(ReadOptions("deepseek", {}, config).status());
  absl::StatusOr<std::vector<Placement>> placements = PlanDeepseek(problem);
  if (!placements.ok()) return placements.status();
  return WithEvenShares(*std::move(placements));
}

}  // namespace evenkeel::algos
