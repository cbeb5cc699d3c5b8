// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/flashlb/tree_search.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace evenkeel::algos::flashlb {

TreeSearch::TreeSearch(const Shape& shape, const TreeOptions& options)
    : shape_(shape), options_(options), packer_(shape, options.z_score) {}

TreeResult TreeSearch::Run(const LayerHeat& heat) {
  const size_t num_experts = heat.num_experts, depth = static_cast<size_t>(options_.depth);
  values_.resize(num_experts);
  for (size_t e = 0; e < num_experts; ++e) values_[e] = heat.mean[e] + options_.z_score * heat.deviation[e];
  order_.resize(num_experts);
  std::iota(order_.begin(), order_.end(), 0u);
  std::ranges::stable_sort(order_, [&](uint32_t a, uint32_t b) { return values_[a] > values_[b]; });
  counts_.assign(num_experts, 1);
  best_.reset();
  packer_.Begin(heat);

  int extra = shape_.num_redundant();
  Group rest(order_);
  const size_t group_size = (num_experts + depth - 1) / depth;
  for (size_t level = 0; level + 1 < depth && extra > 0 && rest.size() > group_size; ++level) {
    extra -= Decide(rest.first(group_size), rest.subspan(group_size), extra);
    rest = rest.subspan(group_size);
  }
  // With a decision the rest has been looked ahead at as it is to be.
  if (!best_.has_value()) {
    WriteCounts(rest, AllotmentOf(rest, extra), extra);
    Consider(best_);
  }
  return *std::move(best_);
}

int TreeSearch::Decide(Group group, Group rest, int extra) {
  const Allotment of_group = AllotmentOf(group, extra), of_rest = AllotmentOf(rest, extra);
  const int plain = of_group.ShareOf(extra, of_rest);
  int best_share = plain;
  std::optional<TreeResult> best;
  const auto consider = [&](int share) {
    if (share < 0 || share > extra) return;
    WriteCounts(group, of_group, share);
    WriteCounts(rest, of_rest, extra - share);
    if (Consider(best)) best_share = share;
  };
  consider(plain);
  for (int step = 1; step <= options_.width; ++step) {
    consider(plain - step);
    consider(plain + step);
  }
  best_ = std::move(best);
  counts_ = best_->counts;
  return best_share;
}

// Whether what counts_ leads to is the best yet.
bool TreeSearch::Consider(std::optional<TreeResult>& best) {
  packer_.Pack(counts_);
  const double score = packer_.Score();
  if (best.has_value() && score >= best->score) return false;
  best = TreeResult{counts_, packer_.contents(), score};
  return true;
}

void TreeSearch::WriteCounts(Group group, const Allotment& allotment, int extra) {
  group_counts_.resize(group.size());
  allotment.Write(extra, group_counts_);
  for (size_t i = 0; i < group.size(); ++i) counts_[group[i]] = group_counts_[i];
}

Allotment TreeSearch::AllotmentOf(Group group, int extra_max) {
  group_values_.clear();
  for (uint32_t expert : group) group_values_.push_back(values_[expert]);
  return Allotment(options_.allotment, group_values_, extra_max);
}

}  // namespace evenkeel::algos::flashlb
