// SPDX-License-Identifier: Apache-2.0
//
// RiskPacker: puts replicas on ranks, those with the largest mean heat first, each on the rank of least risk; and
// says how balanced the result is.
//
// The risk of a rank is the mean of its heat plus z times its deviation, covariances included: experts that run hot
// together are kept apart. A rank does not get a second replica of an expert, unless every rank with a free
// slot holds one.
//
// The score of a placement is the mean over episodes of the largest rank heat x ranks / heat: 1 is perfect. One
// hundredth of a token is added above and below.
//
// Order:     equal means by lowest expert, equal risks by lowest rank. Means and variances of ranks add up in double,
//            covariances and heat in float, all in the order of slots; risks are compared in float.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "algos/base/ids.h"
#include "algos/placement.h"
#include "algos/policies/peers/flashlb/layer_heat.h"

namespace evenkeel::algos::flashlb {

class RiskPacker {
 public:
  RiskPacker(const Shape& shape, double z_score);

  // Starts on a layer. Requires: `heat` outlives its use and does not change.
  void Begin(const LayerHeat& heat);

  // Packs counts[expert] replicas of every expert; as many as slots in all. `kept`: slots that are not to
  // change, or empty; experts with a replica there have all of them there.
  void Pack(std::span<const int32_t> counts, std::span<const ExpertId> kept = {});

  // Of what was packed last. Slots of a rank are in the order in which they were filled, kept ones first.
  double Score();
  std::vector<std::vector<ExpertId>> contents() const;

 private:
  struct Rank {
    double mean = 0, variance = 0;
    size_t fill = 0;
  };

  void Clear();
  void SortByUnitMean(std::span<const int32_t> counts);
  void Place(size_t expert, int32_t count);
  size_t LeastRisk(size_t expert, int32_t count) const;
  void Put(size_t rank, size_t expert, int32_t count);
  void Open(size_t rank);
  void Close(size_t rank);
  const float* covariances_with(size_t rank) const { return covariances_.data() + rank * covariances_stride_; }

  const size_t num_ranks_, slots_per_rank_, ranks_stride_;
  const double z_score_;
  const LayerHeat* heat_ = nullptr;
  std::vector<uint32_t> by_mean_;  // experts, largest mean first

  // Of the placement at hand.
  std::vector<Rank> ranks_;
  std::vector<uint32_t> expert_of_slot_;     // [num_ranks][slots_per_rank], as far as filled
  std::vector<float> open_mean_, variance_;  // by rank, as in ranks_; infinite mean where closed
  std::vector<float> covariances_;           // [ranks_stride][covariances_stride] of a rank's heat with experts
  size_t covariances_stride_ = 0;
  std::vector<float> sums_;                // [num_ranks][episodes_stride] heat
  std::vector<uint32_t> order_, several_;  // experts, largest mean per replica first; those with several
  std::vector<size_t> closed_;             // ranks that have got the expert at hand
};

}  // namespace evenkeel::algos::flashlb
