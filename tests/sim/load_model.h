// SPDX-License-Identifier: Apache-2.0
//
// LoadModel: how often each expert of a group is chosen: skewed, and drifting until it is told to stay.
//
// Threads:   none.
#pragma once

#include <cstdint>
#include <vector>

#include "algos/base/ids.h"
#include "algos/base/rng.h"

namespace evenkeel::sim {

class LoadModel {
 public:
  struct Sizes {
    int num_layers = 0;
    int num_experts = 0;
    double sigma = 1;  // of the logarithm of an expert's share
  };

  LoadModel(const Sizes& sizes, uint64_t seed);

  // Every expert's share changes somewhat; now and then one becomes hot.
  void Drift();

  ExpertId Pick(LayerId layer, Rng& rng) const;
  double ShareOf(LayerId layer, ExpertId expert) const;  // of the layer's tokens; they add up to 1

 private:
  void Sum();

  const Sizes sizes_;
  Rng rng_;
  std::vector<double> logs_;        // [num_layers * num_experts]
  std::vector<double> cumulative_;  // within each layer, last one 1
};

}  // namespace evenkeel::sim
