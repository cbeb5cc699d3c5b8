// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/flashlb/layer_heat.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "algos/policies/peers/flashlb/lanes.h"

namespace evenkeel::algos::flashlb {

namespace {

constexpr size_t kBlock = 2 * kLanes;  // experts at a time

}  // namespace

HeatReader::HeatReader(const Problem& problem, int sample_size) : problem_(problem) {
  const size_t num_steps = problem.episodes.size(), samples = static_cast<size_t>(sample_size);
  steps_per_episode_ = std::max<size_t>(num_steps / samples, 1);
  first_step_ = num_steps - std::min(num_steps, steps_per_episode_ * samples);
}

void HeatReader::Read(LayerId layer, LayerHeat& heat) {
  Sum(layer, first_step_, steps_per_episode_, heat);
  Describe(heat);
}

void HeatReader::ReadSteps(LayerId layer, LayerHeat& heat) { Sum(layer, 0, 1, heat); }

void HeatReader::Sum(LayerId layer, size_t first_step, size_t steps_per_episode, LayerHeat& heat) {
  heat.num_experts = static_cast<size_t>(problem_.shape.num_experts);
  heat.num_episodes = (problem_.episodes.size() - first_step) / steps_per_episode;
  heat.experts_stride = (heat.num_experts + kBlock - 1) / kBlock * kBlock;
  heat.episodes_stride = (heat.num_episodes + kLanes - 1) / kLanes * kLanes;
  heat.by_expert.assign(heat.num_experts * heat.episodes_stride, 0.0f);
  heat.total.assign(heat.num_episodes, 0.0);
  heat.mean.assign(heat.num_experts, 0.0);
  std::vector<double> sums(heat.num_experts);
  for (size_t episode = 0; episode < heat.num_episodes; ++episode) {
    sums.assign(heat.num_experts, static_cast<double>(steps_per_episode));
    for (size_t step = 0; step < steps_per_episode; ++step) {
      const auto tokens = problem_.episodes[first_step + episode * steps_per_episode + step].layer(layer);
      for (size_t e = 0; e < sums.size(); ++e) sums[e] += static_cast<double>(tokens[e]);
    }
    double total = 0;
    for (size_t e = 0; e < sums.size(); ++e) {
      total += sums[e];
      heat.mean[e] += sums[e];
      heat.by_expert[e * heat.episodes_stride + episode] = static_cast<float>(sums[e]);
    }
    heat.total[episode] = total;
  }
  for (double& mean : heat.mean) mean /= static_cast<double>(heat.num_episodes);
}

void HeatReader::Describe(LayerHeat& heat) {
  heat.variance.assign(heat.num_experts, 0.0);
  heat.deviation.assign(heat.num_experts, 0.0);
  heat.covariance.clear();
  if (heat.num_episodes < 2) return;
  centred_.assign(heat.num_episodes * heat.experts_stride, 0.0f);
  for (size_t e = 0; e < heat.num_experts; ++e) {
    const auto mine = heat.heat_of(e);
    double squares = 0;
    for (size_t episode = 0; episode < heat.num_episodes; ++episode) {
      const double centred = static_cast<double>(mine[episode]) - heat.mean[e];
      squares += centred * centred;
      centred_[episode * heat.experts_stride + e] = static_cast<float>(centred);
    }
    heat.variance[e] = squares / static_cast<double>(heat.num_episodes - 1);
    heat.deviation[e] = std::sqrt(heat.variance[e]);
  }
  Correlate(heat);
}

// Blocks of 4 x kBlock experts, kept in registers over all episodes; what is below the diagonal is mirrored.
void HeatReader::Correlate(LayerHeat& heat) const {
  const size_t stride = heat.experts_stride;
  const float scale = 1.0f / static_cast<float>(heat.num_episodes - 1);
  heat.covariance.resize(stride * stride);
  float* const out = heat.covariance.data();
  for (size_t row = 0; row < stride; row += 4) {
    for (size_t column = row / kBlock * kBlock; column < stride; column += kBlock) {
      Lanes left[4] = {}, right[4] = {};
      const float* at = centred_.data();
      for (size_t episode = 0; episode < heat.num_episodes; ++episode, at += stride) {
        const Lanes left_heat = LoadLanes(at + column), right_heat = LoadLanes(at + column + kLanes);
        // Written out, so that the sums stay in registers.
        left[0] += left_heat * at[row];
        left[1] += left_heat * at[row + 1];
        left[2] += left_heat * at[row + 2];
        left[3] += left_heat * at[row + 3];
        right[0] += right_heat * at[row];
        right[1] += right_heat * at[row + 1];
        right[2] += right_heat * at[row + 2];
        right[3] += right_heat * at[row + 3];
      }
      for (size_t i = 0; i < 4; ++i) {
        StoreLanes(out + (row + i) * stride + column, left[i] * scale);
        StoreLanes(out + (row + i) * stride + column + kLanes, right[i] * scale);
      }
    }
  }
  for (size_t row = 0; row < stride; ++row) {
    for (size_t column = 0; column < row / kBlock * kBlock; ++column)
      out[row * stride + column] = out[column * stride + row];
  }
}

}  // namespace evenkeel::algos::flashlb
