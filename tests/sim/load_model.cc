// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/load_model.h"

#include <algorithm>
#include <cmath>

namespace evenkeel::sim {

LoadModel::LoadModel(const Sizes& sizes, uint64_t seed) : sizes_(sizes), rng_(seed) {
  const size_t size = static_cast<size_t>(sizes.num_layers * sizes.num_experts);
  for (size_t i = 0; i < size; ++i) logs_.push_back(sizes.sigma * rng_.Normal());
  cumulative_.resize(size);
  Sum();
}

void LoadModel::Drift() {
  for (double& log : logs_) log = 0.9 * log + 0.44 * sizes_.sigma * rng_.Normal();
  if (rng_.Chance(0.3)) logs_[rng_.Below(logs_.size())] = 3 * sizes_.sigma;
  Sum();
}

void LoadModel::Sum() {
  const size_t num_experts = static_cast<size_t>(sizes_.num_experts);
  for (size_t first = 0; first < logs_.size(); first += num_experts) {
    double total = 0;
    for (size_t e = 0; e < num_experts; ++e) cumulative_[first + e] = total += std::exp(logs_[first + e]);
    for (size_t e = 0; e < num_experts; ++e) cumulative_[first + e] /= total;
  }
}

ExpertId LoadModel::Pick(LayerId layer, Rng& rng) const {
  const auto first = cumulative_.begin() + layer.value() * sizes_.num_experts;
  const auto found = std::upper_bound(first, first + sizes_.num_experts - 1, rng.Uniform());
  return ExpertId(static_cast<int>(found - first));
}

double LoadModel::ShareOf(LayerId layer, ExpertId expert) const {
  const size_t at = layer.idx() * static_cast<size_t>(sizes_.num_experts) + expert.idx();
  return cumulative_[at] - (expert.value() == 0 ? 0 : cumulative_[at - 1]);
}

}  // namespace evenkeel::sim
