// SPDX-License-Identifier: Apache-2.0
//
// LoadFilter: the load to expect next, from all windows so far.
//
// A window is a noisy sample: an expert with n tokens is off by 1/sqrt(n), and averaging windows blurs what has
// changed meanwhile. Loads are scaled so that this noise is the same for every expert, and then split in two:
// - Along the factors common to all layers (factors.h) the newest window is believed.
// - The remainder is averaged over time, by as much as it is noise: with v the mean square by which the newest
//   window misses the average so far, over that of noise alone, the window enters with weight 1 - 1/v. In steady
//   traffic that averages dozens of windows; when the traffic changes, v jumps and the past is dropped at once.
// The noise itself is measured, as traffic is burstier than independent tokens: what two neighbouring windows differ
// by, less what one window's drift adds (known from those two apart).
//
// Cost:      O(layers * experts * rank^2) for each window, and as many numbers as layers * experts * rank.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "algos/base/ids.h"
#include "algos/flex/factors.h"
#include "algos/problem.h"

namespace evenkeel::algos {

class LoadFilter {
 public:
  struct Options {
    int num_layers = 0;
    int num_experts = 0;
    int num_factors = 12;      // at most; fewer where loads have few numbers
    double forgetting = 0.99;  // of factors, by window
    double gain_min = 0.03;    // least weight of a new window
  };

  explicit LoadFilter(const Options& options);

  // The next window. Layers without tokens in it keep what is expected of them.
  void Observe(const Load& window);

  int num_observed() const { return num_observed_; }
  // The part of the layer's tokens that each expert is expected to get: adds up to 1, or all 0 before the layer had
  // any tokens.
  std::span<const double> Expected(LayerId layer) const;

  // Of the newest window: mean square surprise of the remainder over noise, and the weight it got.
  double surprise() const { return surprise_; }
  double gain() const { return gain_; }

 private:
  void ScaleAnew();
  void MeasureNoise(const std::vector<double>& scaled, double noise);

  const Options options_;
  const size_t size_;  // layers * experts
  Factors factors_;
  int num_observed_ = 0;
  double reference_ = 0;                     // tokens of a layer and window that loads are scaled to
  std::vector<double> mean_;                 // [size_] part of the layer's tokens, slow average
  std::vector<double> scale_;                // [size_] noise of a reference window
  std::vector<double> remainder_;            // [size_] average, in units of noise
  std::vector<double> last_, last_but_one_;  // scaled windows
  double near_ = 0, far_ = 0;                // mean square difference of windows one and two apart
  int num_differences_ = 0;
  double noise_ = 1;  // mean square, of a reference window
  double surprise_ = 0, gain_ = 1;
  std::vector<double> expected_;  // [size_]
};

}  // namespace evenkeel::algos
