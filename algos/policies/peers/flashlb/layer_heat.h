// SPDX-License-Identifier: Apache-2.0
//
// Layer heat: one layer's load over time as FlashLB sees it: episodes, and the mean, variance and covariance of
// every expert over them.
//
// A step is one of Problem::episodes; every expert counts one token more than it got. With more steps than
// `sample_size`, the newest of them are summed in equal runs to that many episodes; what does not fill a run
// is dropped from the old end.
//
// Order:     sums run over time, oldest first.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "algos/base/ids.h"
#include "algos/problem.h"

namespace evenkeel::algos::flashlb {

struct LayerHeat {
  size_t num_experts = 0, num_episodes = 0;
  size_t experts_stride = 0, episodes_stride = 0;  // rounded up; zeros beyond
  std::vector<float> by_expert;                    // [num_experts][episodes_stride] heat
  std::vector<double> total;                       // [num_episodes] heat of all experts
  std::vector<double> mean, variance, deviation;   // by expert; the latter 0 where there is one episode
  std::vector<float> covariance;                   // [experts_stride][experts_stride]; empty: one episode

  std::span<const float> heat_of(size_t expert) const {
    return std::span(by_expert).subspan(expert * episodes_stride, episodes_stride);
  }
};

class HeatReader {
 public:
  // Requires: `problem` outlives this.
  HeatReader(const Problem& problem, int sample_size);

  // Episodes of the layer, with statistics.
  void Read(LayerId layer, LayerHeat& heat);
  // The steps themselves, without statistics.
  void ReadSteps(LayerId layer, LayerHeat& heat);

  // Whether episodes are steps.
  bool is_one_to_one() const { return steps_per_episode_ == 1 && first_step_ == 0; }

 private:
  void Sum(LayerId layer, size_t first_step, size_t steps_per_episode, LayerHeat& heat);
  void Describe(LayerHeat& heat);
  void Correlate(LayerHeat& heat) const;

  const Problem& problem_;
  size_t first_step_ = 0, steps_per_episode_ = 1;
  std::vector<float> centred_;  // [num_episodes][experts_stride] heat less its mean
};

}  // namespace evenkeel::algos::flashlb
