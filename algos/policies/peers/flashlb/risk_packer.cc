// SPDX-License-Identifier: Apache-2.0
#include "algos/policies/peers/flashlb/risk_packer.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "algos/base/check.h"
#include "algos/policies/peers/flashlb/lanes.h"

namespace evenkeel::algos::flashlb {

namespace {

constexpr float kClosed = std::numeric_limits<float>::infinity();
// Keeps rows of a power of two apart in the caches.
constexpr size_t kRowGap = 4 * kLanes;

}  // namespace

RiskPacker::RiskPacker(const Shape& shape, double z_score)
    : num_ranks_(static_cast<size_t>(shape.num_ranks)),
      slots_per_rank_(static_cast<size_t>(shape.slots_per_rank)),
      ranks_stride_((num_ranks_ + kLanes - 1) / kLanes * kLanes),
      z_score_(z_score),
      expert_of_slot_(num_ranks_ * slots_per_rank_) {}

void RiskPacker::Begin(const LayerHeat& heat) {
  heat_ = &heat;
  by_mean_.resize(heat.num_experts);
  std::iota(by_mean_.begin(), by_mean_.end(), 0u);
  std::ranges::stable_sort(by_mean_, [&](uint32_t a, uint32_t b) { return heat.mean[a] > heat.mean[b]; });
}

void RiskPacker::Pack(std::span<const int32_t> counts, std::span<const ExpertId> kept) {
  Clear();
  std::vector<bool> is_kept;
  if (!kept.empty()) is_kept.assign(counts.size(), false);
  for (size_t slot = 0; slot < kept.size(); ++slot) {
    if (!kept[slot].valid()) continue;
    Put(slot / slots_per_rank_, kept[slot].idx(), counts[kept[slot].idx()]);
    is_kept[kept[slot].idx()] = true;
  }
  SortByUnitMean(counts);
  for (uint32_t expert : order_) {
    if (is_kept.empty() || !is_kept[expert]) Place(expert, counts[expert]);
  }
}

void RiskPacker::Clear() {
  ranks_.assign(num_ranks_, {});
  open_mean_.assign(ranks_stride_, kClosed);
  std::fill_n(open_mean_.begin(), num_ranks_, 0.0f);
  variance_.assign(ranks_stride_, 0.0f);
  sums_.assign(num_ranks_ * heat_->episodes_stride, 0.0f);
  if (heat_->covariance.empty()) return;
  covariances_stride_ = heat_->experts_stride + kRowGap;
  covariances_.assign(ranks_stride_ * covariances_stride_, 0.0f);
}

// Experts with one replica are in order already; the few others are merged in.
void RiskPacker::SortByUnitMean(std::span<const int32_t> counts) {
  const auto is_before = [&](uint32_t a, uint32_t b) {
    const double unit_a = heat_->mean[a] / counts[a], unit_b = heat_->mean[b] / counts[b];
    return unit_a != unit_b ? unit_a > unit_b : a < b;
  };
  several_.clear();
  for (uint32_t expert : by_mean_) {
    if (counts[expert] > 1) several_.push_back(expert);
  }
  std::ranges::sort(several_, is_before);
  order_.clear();
  auto next = several_.begin();
  for (uint32_t expert : by_mean_) {
    if (counts[expert] > 1) continue;
    while (next != several_.end() && is_before(*next, expert)) order_.push_back(*next++);
    order_.push_back(expert);
  }
  order_.insert(order_.end(), next, several_.end());
}

void RiskPacker::Place(size_t expert, int32_t count) {
  closed_.clear();
  for (int32_t replica = 0; replica < count; ++replica) {
    size_t rank = LeastRisk(expert, count);
    if (rank == num_ranks_) {
      for (size_t closed : closed_) Open(closed);
      closed_.clear();
      rank = LeastRisk(expert, count);
      EVENKEEL_CHECK(rank < num_ranks_);
    }
    Put(rank, expert, count);
    if (replica + 1 == count) break;
    Close(rank);
    closed_.push_back(rank);
  }
  for (size_t rank : closed_) Open(rank);
}

// The expert's own mean is the same everywhere and left out.
size_t RiskPacker::LeastRisk(size_t expert, int32_t count) const {
  const bool varies = !heat_->covariance.empty();
  const Lanes z = SpreadLanes(static_cast<float>(z_score_));
  const Lanes own = SpreadLanes(static_cast<float>(heat_->variance[expert] / count / count));
  const Lanes twice = SpreadLanes(static_cast<float>(2.0 / count));
  Lanes least = SpreadLanes(kClosed), at = {0, 1, 2, 3}, best = SpreadLanes(-1);
  for (size_t rank = 0; rank < ranks_stride_; rank += kLanes) {
    Lanes risk = LoadLanes(open_mean_.data() + rank);
    if (varies) {
      const float* const with = covariances_with(rank) + expert;
      const Lanes covariance = {with[0], with[covariances_stride_], with[2 * covariances_stride_],
                                with[3 * covariances_stride_]};
      const Lanes variance = LoadLanes(variance_.data() + rank) + (own + twice * covariance);
      risk += z * RootOf(MaxOf(variance, SpreadLanes(0)));
    }
    best = risk < least ? at : best;
    least = MinOf(risk, least);
    at += SpreadLanes(static_cast<float>(kLanes));
  }
  size_t lane = 0;
  for (size_t i = 1; i < kLanes; ++i) {
    if (least[i] < least[lane] || (least[i] == least[lane] && best[i] < best[lane])) lane = i;
  }
  return least[lane] == kClosed ? num_ranks_ : static_cast<size_t>(best[lane]);
}

void RiskPacker::Put(size_t rank, size_t expert, int32_t count) {
  const float part = 1.0f / static_cast<float>(count);
  Rank& to = ranks_[rank];
  expert_of_slot_[rank * slots_per_rank_ + to.fill++] = static_cast<uint32_t>(expert);
  to.mean += heat_->mean[expert] / count;
  if (!heat_->covariance.empty()) {
    float* const with = covariances_.data() + rank * covariances_stride_;
    const double unit = 1.0 / count, covariance = static_cast<double>(with[expert]);
    to.variance = std::max(0.0, to.variance + unit * (unit * heat_->variance[expert] + 2 * covariance));
    const float* const row = heat_->covariance.data() + expert * heat_->experts_stride;
    for (size_t e = 0; e < heat_->experts_stride; e += kLanes) {
      StoreLanes(with + e, LoadLanes(with + e) + LoadLanes(row + e) * part);
    }
  }
  Open(rank);
  float* const sums = sums_.data() + rank * heat_->episodes_stride;
  const float* const heat = heat_->heat_of(expert).data();
  for (size_t at = 0; at < heat_->episodes_stride; at += kLanes) {
    StoreLanes(sums + at, LoadLanes(sums + at) + LoadLanes(heat + at) * part);
  }
}

void RiskPacker::Open(size_t rank) {
  const Rank& at = ranks_[rank];
  open_mean_[rank] = at.fill == slots_per_rank_ ? kClosed : static_cast<float>(at.mean);
  variance_[rank] = static_cast<float>(at.variance);
}

void RiskPacker::Close(size_t rank) { open_mean_[rank] = kClosed; }

double RiskPacker::Score() {
  double score = 0;
  for (size_t at = 0; at < heat_->episodes_stride; at += kLanes) {
    Lanes most = {};
    for (size_t rank = 0; rank < num_ranks_; ++rank) {
      most = MaxOf(most, LoadLanes(sums_.data() + rank * heat_->episodes_stride + at));
    }
    for (size_t i = 0; i < kLanes && at + i < heat_->num_episodes; ++i) {
      const double largest = static_cast<double>(most[i]) * static_cast<double>(num_ranks_);
      score += (largest + 0.01) / (heat_->total[at + i] + 0.01);
    }
  }
  return score / static_cast<double>(heat_->num_episodes);
}

std::vector<std::vector<ExpertId>> RiskPacker::contents() const {
  std::vector<std::vector<ExpertId>> contents(num_ranks_);
  for (size_t rank = 0; rank < num_ranks_; ++rank) {
    for (size_t i = 0; i < ranks_[rank].fill; ++i) {
      contents[rank].push_back(ExpertId(static_cast<int32_t>(expert_of_slot_[rank * slots_per_rank_ + i])));
    }
  }
  return contents;
}

}  // namespace evenkeel::algos::flashlb
