// SPDX-License-Identifier: Apache-2.0
//
// EpisodeMemory: a few loads that stand for all that a group has seen, longer ago than windows are kept.
//
// Windows are summed into blocks; a block becomes an episode. Where there are more episodes than are kept, the two
// most alike are merged. So what differs stays apart, and what repeats gains weight. Weights fade.
//
// Order:     of two equal distances the one between older episodes counts as less.
#pragma once

#include <span>
#include <vector>

#include "algos/base/ids.h"
#include "algos/problem.h"

namespace evenkeel::algos {

class EpisodeMemory {
 public:
  struct Options {
    int num_layers = 0;
    int num_experts = 0;
    int windows_per_block = 10;  // > 0
    int num_kept_max = 12;       // > 0
    double fading = 0.995;       // of weights, by window
  };

  struct Episode {
    std::vector<double> parts;  // [layers * experts] of the layer's tokens; all 0 where it had none
    double weight = 0;          // in blocks
  };

  explicit EpisodeMemory(const Options& options);

  void Observe(const Load& window);

  // Oldest first, by when they began. The block under way is not among them.
  const std::vector<Episode>& episodes() const { return episodes_; }
  // Grows with every block.
  int version() const { return version_; }

 private:
  void MergeNearest();
  double Distance(const Episode& a, const Episode& b) const;

  const Options options_;
  std::vector<double> block_;  // tokens
  int num_in_block_ = 0;
  int version_ = 0;
  std::vector<Episode> episodes_;
  std::vector<std::vector<double>> distances_;  // [i][j], j < i
};

}  // namespace evenkeel::algos
