// SPDX-License-Identifier: Apache-2.0
//
// Tree search: how many replicas every expert of a layer gets, decided together with where they go.
//
// Experts are sorted by value (allotment.h) and cut into `depth` groups. Group after group, it is decided how many
// of the slots left it shares: the share that a plain allotment gives it, and up to `width` more or fewer (no
// others: the pruning). Each is judged by the score of a whole placement (risk_packer.h), in which the groups to
// come have a plain allotment of what is left (the look-ahead). Depth 1 is the plain allotment.
//
// Order:     of equal scores the first wins: the plain share, then one fewer, one more, two fewer, ...
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "algos/base/ids.h"
#include "algos/placement.h"
#include "algos/policies/peers/flashlb/allotment.h"
#include "algos/policies/peers/flashlb/layer_heat.h"
#include "algos/policies/peers/flashlb/risk_packer.h"

namespace evenkeel::algos::flashlb {

struct TreeOptions {
  int depth = 4;
  int width = 8;
  AllotmentMethod allotment = AllotmentMethod::kMinMax;
  double z_score = 0.6744897501960817;  // three quarters of a normal distribution are below it
};

struct TreeResult {
  std::vector<int32_t> counts;                  // by expert
  std::vector<std::vector<ExpertId>> contents;  // by rank
  double score = 0;
};

class TreeSearch {
 public:
  TreeSearch(const Shape& shape, const TreeOptions& options);

  TreeResult Run(const LayerHeat& heat);

  // For other placements of the layer that was searched last.
  RiskPacker& packer() { return packer_; }

 private:
  using Group = std::span<const uint32_t>;

  // Decides the group's share of the `extra` slots that it has with `rest`; returns the share.
  int Decide(Group group, Group rest, int extra);
  bool Consider(std::optional<TreeResult>& best);
  void WriteCounts(Group group, const Allotment& allotment, int extra);
  Allotment AllotmentOf(Group group, int extra_max);

  const Shape shape_;
  const TreeOptions options_;
  RiskPacker packer_;
  // Of the layer at hand.
  std::vector<double> values_;   // by expert
  std::vector<uint32_t> order_;  // experts, largest value first
  std::vector<int32_t> counts_;  // as decided and looked ahead
  std::optional<TreeResult> best_;
  std::vector<double> group_values_;
  std::vector<int32_t> group_counts_;
};

}  // namespace evenkeel::algos::flashlb
