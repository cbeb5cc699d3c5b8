// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/trtllm.h"

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

// Plans one layer after another; storage is kept between them.
class TrtllmPlanner {
 public:
  explicit TrtllmPlanner(const Shape& shape)
      : shape_(shape), num_experts_(static_cast<size_t>(shape.num_experts)), loads_(num_experts_) {}

  Placement Plan(std::span<const uint64_t> tokens) {
    for (size_t e = 0; e < num_experts_; ++e) loads_[e] = static_cast<double>(static_cast<float>(tokens[e]));
    Replicate();
    return Place();
  }

 private:
  double ReplicaLoad(size_t expert) const { return loads_[expert] / static_cast<double>(counts_[expert]); }

  void Replicate() {
    const size_t num_slots = static_cast<size_t>(shape_.num_slots());
    if (std::all_of(loads_.begin(), loads_.end(), [](double load) { return load == 0; })) {
      counts_.assign(num_experts_, num_slots / num_experts_);
      for (size_t e = 0; e < num_slots % num_experts_; ++e) ++counts_[e];
      return;
    }
    counts_.assign(num_experts_, 1);
    // Experts from last to first, so that the highest id comes first among equal loads.
    const auto mirrored = [this](size_t i) { return num_experts_ - 1 - i; };
    heaviest_.Reset(num_experts_, [&](size_t i) { return HeaviestKey(ReplicaLoad(mirrored(i))); });
    for (size_t placed = num_experts_; placed < num_slots; ++placed) {
      const size_t i = heaviest_.least_idx();
      ++counts_[mirrored(i)];
      heaviest_.Update(i, HeaviestKey(ReplicaLoad(mirrored(i))));
    }
  }

  Placement Place() {
    const size_t room = static_cast<size_t>(shape_.slots_per_rank), num_ranks = static_cast<size_t>(shape_.num_ranks);
    replica_loads_.clear();
    expert_of_replica_.clear();
    for (size_t e = 0; e < num_experts_; ++e) {
      replica_loads_.insert(replica_loads_.end(), counts_[e], ReplicaLoad(e));
      expert_of_replica_.insert(expert_of_replica_.end(), counts_[e], ExpertId(static_cast<int32_t>(e)));
    }
    Placement placement{std::vector<ExpertId>(room * num_ranks)};
    rank_loads_.assign(num_ranks, 0.0);
    fill_.assign(num_ranks, 0);
    lightest_.Reset(num_ranks, [](size_t) { return LightestKey(0.0); });
    for (uint32_t replica : sorter_.Sort(replica_loads_)) {
      const size_t rank = lightest_.least_idx();
      placement.expert_of_slot[rank * room + fill_[rank]] = expert_of_replica_[replica];
      rank_loads_[rank] += replica_loads_[replica];
      lightest_.Update(rank, ++fill_[rank] == room ? MinTree::kAbsent : LightestKey(rank_loads_[rank]));
    }
    return placement;
  }

  const Shape shape_;
  const size_t num_experts_;

  // Of the layer at hand.
  std::vector<double> loads_;   // by expert, rounded to float32
  std::vector<size_t> counts_;  // replicas, by expert
  std::vector<double> replica_loads_, rank_loads_;
  std::vector<ExpertId> expert_of_replica_;
  std::vector<size_t> fill_;
  MinTree heaviest_, lightest_;
  HeaviestFirstSorter sorter_;
};

}  // namespace

absl::StatusOr<std::vector<Placement>> PlanTrtllm(const Problem& problem) {
  EVENKEEL_RETURN_IF_ERROR(Validate(problem));
  EVENKEEL_RETURN_IF_ERROR(RefuseDeadRanks("trtllm", problem));
  const Load total = TotalLoad(problem);
  TrtllmPlanner planner(problem.shape);
  return PlanEachLayer(problem, [&](LayerId layer) { return planner.Plan(total.layer(layer)); });
}

absl::StatusOr<std::vector<LayerPlan>> TrtllmPolicy(const Problem& problem, const PolicyConfig& config) {
  EVENKEEL_RETURN_IF_ERROR(ReadOptions("trtllm", {}, config).status());
  EVENKEEL_ASSIGN_OR_RETURN(std::vector<Placement> placements, PlanTrtllm(problem));
  return WithEvenShares(std::move(placements));
}

}  // namespace evenkeel::algos
