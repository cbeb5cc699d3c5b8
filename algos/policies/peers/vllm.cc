// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/vllm.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>

#include "algos/base/ids.h"
#include "algos/base/status_macros.h"
#include "algos/policies/each_layer.h"
#include "algos/policies/ordering.h"
#include "algos/policies/peers/double_ordering.h"

namespace evenkeel::algos {

namespace {

// The order in which numpy adds up float32 values that lie side by side.
float PairwiseSum(std::span<const float> values) {
  const size_t n = values.size();
  if (n < 8) {
    float sum = 0;
    for (float value : values) sum += value;
    return sum;
  }
  if (n > 128) {
    const size_t half = n / 2 - n / 2 % 8;
    return PairwiseSum(values.first(half)) + PairwiseSum(values.subspan(half));
  }
  float lanes[8];
  std::copy_n(values.begin(), 8, lanes);
  const size_t whole = n - n % 8;
  for (size_t i = 8; i < whole; i += 8) {
    for (size_t lane = 0; lane < 8; ++lane) lanes[lane] += values[i + lane];
  }
  float sum = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
  for (size_t i = whole; i < n; ++i) sum += values[i];
  return sum;
}

// Plans one layer after another; storage is kept between them.
class VllmPlanner {
 public:
  explicit VllmPlanner(const Problem& problem)
      : shape_(problem.shape),
        num_experts_(static_cast<size_t>(shape_.num_experts)),
        num_slots_(static_cast<size_t>(shape_.num_slots())),
        num_ranks_(static_cast<size_t>(shape_.num_ranks)),
        num_groups_(static_cast<size_t>(problem.num_expert_groups)),
        num_nodes_(static_cast<size_t>(problem.num_nodes)),
        tokens_(num_experts_),
        expert_of_position_(num_experts_),
        planned_(num_slots_) {
    if (num_groups_ % num_nodes_ != 0) num_groups_ = num_nodes_ = 1;
  }

  Placement Plan(std::span<const uint64_t> tokens, const Placement* current) {
    for (size_t e = 0; e < num_experts_; ++e) tokens_[e] = static_cast<float>(tokens[e]);
    PackGroups();
    for (size_t node = 0; node < num_nodes_; ++node) PlanNode(node);
    if (current != nullptr) KeepSlots(current->expert_of_slot);
    return {planned_};
  }

 private:
  // Item i goes to position pack * (n / packs) + its place in that pack, written to position_.
  void Pack(std::span<const double> weights, size_t num_packs) {
    const size_t n = weights.size(), room = n / num_packs;
    position_.resize(n);
    if (room == 1) {
      for (size_t i = 0; i < n; ++i) position_[i] = static_cast<uint32_t>(i);
      return;
    }
    fill_.assign(num_packs, 0);
    load_.assign(num_packs, 0.0);
    packs_.Reset(num_packs, [](size_t) { return LightestKey(0.0); });
    for (uint32_t i : sorter_.Sort(weights)) {
      const size_t pack = packs_.least_idx();
      position_[i] = static_cast<uint32_t>(pack * room + fill_[pack]);
      load_[pack] += weights[i];
      packs_.Update(pack, ++fill_[pack] == room ? MinTree::kAbsent : LightestKey(load_[pack]));
    }
  }

  void PackGroups() {
    const size_t size = num_experts_ / num_groups_;
    weights_.resize(num_groups_);
    for (size_t g = 0; g < num_groups_; ++g) weights_[g] = PairwiseSum(std::span(tokens_).subspan(g * size, size));
    Pack(weights_, num_nodes_);
    for (size_t e = 0; e < num_experts_; ++e) {
      expert_of_position_[position_[e / size] * size + e % size] = ExpertId(static_cast<int32_t>(e));
    }
  }

  void PlanNode(size_t node) {
    const size_t n = num_experts_ / num_nodes_, num_slots = num_slots_ / num_nodes_;
    const auto experts = std::span(expert_of_position_).subspan(node * n, n);
    Replicate(experts, num_slots);
    weights_.resize(num_slots);
    for (size_t s = 0; s < num_slots; ++s) {
      const size_t item = item_of_slot_[s];
      weights_[s] = static_cast<double>(tokens_[experts[item].idx()]) / static_cast<double>(counts_[item]);
    }
    Pack(weights_, num_ranks_ / num_nodes_);
    for (size_t s = 0; s < num_slots; ++s) planned_[node * num_slots + position_[s]] = experts[item_of_slot_[s]];
  }

  // Slot s holds item item_of_slot_[s] of `experts`: first each of them once, then the heaviest per replica again.
  void Replicate(std::span<const ExpertId> experts, size_t num_slots) {
    const size_t n = experts.size();
    const auto key = [&](size_t i) {
      return HeaviestKey(static_cast<double>(tokens_[experts[i].idx()]) / static_cast<double>(counts_[i]));
    };
    item_of_slot_.resize(num_slots);
    counts_.assign(n, 1);
    for (size_t i = 0; i < n; ++i) item_of_slot_[i] = i;
    if (num_slots == n) return;
    heaviest_.Reset(n, key);
    for (size_t s = n; s < num_slots; ++s) {
      const size_t i = heaviest_.least_idx();
      item_of_slot_[s] = i;
      ++counts_[i];
      heaviest_.Update(i, key(i));
    }
  }

  // Rank by rank: slot after slot, the first planned expert not taken yet that the slot held before; then those
  // left, in planned order, to the slots left.
  void KeepSlots(std::span<const ExpertId> before) {
    const size_t room = static_cast<size_t>(shape_.slots_per_rank);
    for (size_t first = 0; first < num_slots_; first += room) {
      const auto planned = std::span(planned_).subspan(first, room);
      const auto held = before.subspan(first, room);
      arriving_.assign(planned.begin(), planned.end());
      taken_.assign(room, false);
      kept_.assign(room, false);
      for (size_t s = 0; s < room; ++s) {
        for (size_t i = 0; i < room; ++i) {
          if (arriving_[i] != held[s] || taken_[i]) continue;
          planned[s] = held[s];
          taken_[i] = kept_[s] = true;
          break;
        }
      }
      size_t next = 0;
      for (size_t s = 0; s < room; ++s) {
        if (kept_[s]) continue;
        while (taken_[next]) ++next;
        planned[s] = arriving_[next++];
      }
    }
  }

  const Shape shape_;
  const size_t num_experts_, num_slots_, num_ranks_;
  size_t num_groups_, num_nodes_;

  // Of the layer at hand.
  std::vector<float> tokens_;                 // by expert
  std::vector<ExpertId> expert_of_position_;  // node-major
  std::vector<ExpertId> planned_;             // by slot
  // Of the step at hand.
  std::vector<double> weights_, load_;
  std::vector<size_t> item_of_slot_, fill_;
  std::vector<int32_t> counts_;
  std::vector<uint32_t> position_;
  std::vector<ExpertId> arriving_;
  std::vector<uint8_t> taken_, kept_;
  MinTree packs_, heaviest_;
  HeaviestFirstSorter sorter_;
};

}  // namespace

absl::StatusOr<std::vector<Placement>> PlanVllm(const Problem& problem) {
  EVENKEEL_RETURN_IF_ERROR(Validate(problem));
  EVENKEEL_RETURN_IF_ERROR(RefuseDeadRanks("vllm", problem));
  const Load total = TotalLoad(problem);
  VllmPlanner planner(problem);
  return PlanEachLayer(problem,
                       [&](LayerId layer) { return planner.Plan(total.layer(layer), CurrentOf(problem, layer)); });
}

absl::StatusOr<std::vector<LayerPlan>> VllmPolicy(const Problem& problem, const PolicyConfig& config) {
  EVENKEEL_RETURN_IF_ERROR(ReadOptions("vllm", {}, config).status());
  EVENKEEL_ASSIGN_OR_RETURN(std::vector<Placement> placements, PlanVllm(problem));
  return WithEvenShares(std::move(placements));
}

}  // namespace evenkeel::algos
