// SPDX-License-Identifier: Apache-2.0
#include "algos/imbalance.h"

#include <algorithm>
#include <utility>

#include "algos/base/check.h"

namespace evenkeel::algos {

namespace {

struct Extent {
  double max = 0;
  double mean = 0;

  double imbalance() const { return mean > 0 ? std::max(max / mean, 1.0) : 1.0; }
};

template <typename T>
Extent ExtentOf(std::span<const T> rank_loads) {
  Extent extent;
  for (T load : rank_loads) {
    extent.max = std::max(extent.max, static_cast<double>(load));
    extent.mean += static_cast<double>(load);
  }
  if (!rank_loads.empty()) extent.mean /= static_cast<double>(rank_loads.size());
  return extent;
}

template <typename T>
std::vector<T> WithoutAbsent(std::vector<T> rank_loads, const std::vector<bool>& absent) {
  if (absent.empty()) return rank_loads;
  EVENKEEL_CHECK(absent.size() == rank_loads.size());
  size_t kept = 0;
  for (size_t rank = 0; rank < absent.size(); ++rank) {
    if (!absent[rank]) rank_loads[kept++] = rank_loads[rank];
  }
  rank_loads.resize(kept);
  return rank_loads;
}

// Adds layers up, in order.
class Summary {
 public:
  void Add(std::span<const double> rank_loads) {
    const Extent extent = ExtentOf(rank_loads);
    const double imbalance = extent.imbalance();
    if (num_layers_ == 0 || imbalance > result_.worst) {
      result_.worst = imbalance;
      result_.worst_layer = LayerId(num_layers_);
    }
    sum_ += imbalance;
    max_sum_ += extent.max;
    mean_sum_ += extent.mean;
    ++num_layers_;
  }

  ModelImbalance Finish() {
    if (num_layers_ > 0) result_.mean = sum_ / num_layers_;
    result_.weighted = Extent{max_sum_, mean_sum_}.imbalance();
    return result_;
  }

 private:
  ModelImbalance result_;
  int num_layers_ = 0;
  double sum_ = 0, max_sum_ = 0, mean_sum_ = 0;
};

}  // namespace

std::vector<double> Attending(std::vector<double> rank_loads, const std::vector<bool>& absent) {
  return WithoutAbsent(std::move(rank_loads), absent);
}

std::vector<uint64_t> Attending(std::vector<uint64_t> rank_loads, const std::vector<bool>& absent) {
  return WithoutAbsent(std::move(rank_loads), absent);
}

double LayerImbalance(std::span<const double> rank_loads) { return ExtentOf(rank_loads).imbalance(); }

double LayerImbalance(std::span<const uint64_t> rank_loads) { return ExtentOf(rank_loads).imbalance(); }

ModelImbalance ImbalanceOf(std::span<const std::vector<double>> rank_loads) {
  Summary summary;
  for (const std::vector<double>& loads : rank_loads) summary.Add(loads);
  return summary.Finish();
}

std::vector<double> EvenRankLoads(const Placement& placement, const Shape& shape,
                                  std::span<const uint64_t> tokens_of_expert) {
  EVENKEEL_CHECK(tokens_of_expert.size() == static_cast<size_t>(shape.num_experts));
  EVENKEEL_CHECK(placement.expert_of_slot.size() == static_cast<size_t>(shape.num_slots()));
  std::vector<int> num_replicas(tokens_of_expert.size(), 0);
  for (ExpertId expert : placement.expert_of_slot) {
    if (expert.valid()) ++num_replicas[expert.idx()];
  }
  std::vector<double> loads(static_cast<size_t>(shape.num_ranks), 0.0);
  for (size_t slot = 0; slot < placement.expert_of_slot.size(); ++slot) {
    const ExpertId expert = placement.expert_of_slot[slot];
    if (!expert.valid()) continue;
    loads[slot / static_cast<size_t>(shape.slots_per_rank)] +=
        static_cast<double>(tokens_of_expert[expert.idx()]) / num_replicas[expert.idx()];
  }
  return loads;
}

ModelImbalance ImbalanceOf(std::span<const Placement> placements, const Shape& shape, const Load& load) {
  EVENKEEL_CHECK(placements.size() == static_cast<size_t>(load.num_layers));
  Summary summary;
  for (int layer = 0; layer < load.num_layers; ++layer) {
    summary.Add(EvenRankLoads(placements[static_cast<size_t>(layer)], shape, load.layer(LayerId(layer))));
  }
  return summary.Finish();
}

ModelImbalance ImbalanceOf(std::span<const LayerMap> maps, const Shape& shape, const Load& load) {
  EVENKEEL_CHECK(maps.size() == static_cast<size_t>(load.num_layers));
  Summary summary;
  for (int layer = 0; layer < load.num_layers; ++layer) {
    summary.Add(RankLoads(maps[static_cast<size_t>(layer)], shape, load.layer(LayerId(layer))));
  }
  return summary.Finish();
}

std::vector<uint64_t> RealisedRankLoads(const Shape& shape, std::span<const uint64_t> tokens_of_slot) {
  EVENKEEL_CHECK(tokens_of_slot.size() == static_cast<size_t>(shape.num_slots()));
  std::vector<uint64_t> loads(static_cast<size_t>(shape.num_ranks), 0);
  for (size_t slot = 0; slot < tokens_of_slot.size(); ++slot) {
    loads[slot / static_cast<size_t>(shape.slots_per_rank)] += tokens_of_slot[slot];
  }
  return loads;
}

}  // namespace evenkeel::algos
