// SPDX-License-Identifier: Apache-2.0
#include "algos/flex/load_filter.h"

#include <algorithm>
#include <cmath>

#include "algos/base/check.h"

namespace evenkeel::algos {

namespace {

constexpr size_t kNumbersPerFactor = 32;  // so that factors keep at most this part of the noise
constexpr double kSlowest = 0.02;         // weight of a window in slow averages
constexpr int kScaleAnewEvery = 64;
constexpr double kNoiseMin = 0.7, kNoiseMax = 10.0;

size_t NumFactors(const LoadFilter::Options& options) {
  const size_t size = static_cast<size_t>(options.num_layers) * static_cast<size_t>(options.num_experts);
  return std::clamp<size_t>(size / kNumbersPerFactor, 1, static_cast<size_t>(options.num_factors));
}

}  // namespace

LoadFilter::LoadFilter(const Options& options)
    : options_(options),
      size_(static_cast<size_t>(options.num_layers) * static_cast<size_t>(options.num_experts)),
      factors_(size_, NumFactors(options), options.forgetting),
      mean_(size_, 0.0),
      remainder_(size_, 0.0),
      expected_(size_, 0.0) {}

std::span<const double> LoadFilter::Expected(LayerId layer) const {
  const size_t num_experts = static_cast<size_t>(options_.num_experts);
  return std::span(expected_).subspan(layer.idx() * num_experts, num_experts);
}

void LoadFilter::Observe(const Load& window) {
  EVENKEEL_CHECK(window.tokens.size() == size_);
  const size_t num_experts = static_cast<size_t>(options_.num_experts), num_layers = size_ / num_experts;
  std::vector<double> parts(size_);
  double total = 0;
  for (size_t layer = 0; layer < num_layers; ++layer) {
    double tokens = 0;
    for (size_t i = layer * num_experts; i < (layer + 1) * num_experts; ++i) {
      tokens += static_cast<double>(window.tokens[i]);
    }
    total += tokens;
    for (size_t i = layer * num_experts; i < (layer + 1) * num_experts; ++i) {
      parts[i] = tokens > 0 ? static_cast<double>(window.tokens[i]) / tokens : expected_[i];
    }
  }
  if (total <= 0) return;
  const double per_layer = total / static_cast<double>(num_layers);
  if (num_observed_ == 0) reference_ = per_layer;
  ++num_observed_;
  const double weight = std::max(1.0 / num_observed_, kSlowest);
  for (size_t i = 0; i < size_; ++i) mean_[i] += weight * (parts[i] - mean_[i]);
  const bool is_power_of_two = (num_observed_ & (num_observed_ - 1)) == 0;
  if (is_power_of_two || num_observed_ % kScaleAnewEvery == 0) ScaleAnew();

  std::vector<double>& scaled = parts;
  for (size_t i = 0; i < size_; ++i) scaled[i] *= reference_ / scale_[i];
  const double noise = reference_ / per_layer;
  MeasureNoise(scaled, noise);
  const std::vector<double> along = factors_.Split(scaled);  // leaves the remainder
  double square = 0;
  for (size_t i = 0; i < size_; ++i) square += (scaled[i] - remainder_[i]) * (scaled[i] - remainder_[i]);
  const double freedom = std::max(1.0, static_cast<double>(size_ - factors_.num_known()));
  surprise_ = square / freedom / (noise * noise_);
  gain_ = num_observed_ == 1 ? 1.0 : std::clamp(1 - 1 / std::max(surprise_, 1e-9), options_.gain_min, 1.0);
  for (size_t i = 0; i < size_; ++i) remainder_[i] += gain_ * (scaled[i] - remainder_[i]);

  std::vector<double> estimate = remainder_;
  factors_.Join(along, estimate);
  for (size_t layer = 0; layer < num_layers; ++layer) {
    double sum = 0;
    for (size_t i = layer * num_experts; i < (layer + 1) * num_experts; ++i) {
      expected_[i] = std::max(0.0, estimate[i] * scale_[i]);
      sum += expected_[i];
    }
    for (size_t i = layer * num_experts; i < (layer + 1) * num_experts && sum > 0; ++i) expected_[i] /= sum;
  }
  factors_.Learn(along, scaled);
  factors_.Split(remainder_);  // what the new factors explain is theirs from now on
}

void LoadFilter::ScaleAnew() {
  std::vector<double> scale(size_), factors(size_, 1.0);
  for (size_t i = 0; i < size_; ++i) {
    scale[i] = std::sqrt(mean_[i] * reference_ + 1);
    if (!scale_.empty()) factors[i] = scale_[i] / scale[i];
  }
  scale_ = std::move(scale);
  for (std::vector<double>* values : {&remainder_, &last_, &last_but_one_}) {
    for (size_t i = 0; i < values->size(); ++i) (*values)[i] *= factors[i];
  }
  factors_.Rescale(factors);
  factors_.Split(remainder_);
}

void LoadFilter::MeasureNoise(const std::vector<double>& scaled, double noise) {
  if (!last_but_one_.empty()) {
    double near = 0, far = 0;
    for (size_t i = 0; i < size_; ++i) {
      near += (scaled[i] - last_[i]) * (scaled[i] - last_[i]);
      far += (scaled[i] - last_but_one_[i]) * (scaled[i] - last_but_one_[i]);
    }
    const double size = static_cast<double>(size_) * noise;
    const double weight = std::max(1.0 / ++num_differences_, kSlowest);
    near_ += weight * (near / size - near_);
    far_ += weight * (far / size - far_);
    noise_ = std::clamp(near_ - far_ / 2, kNoiseMin, kNoiseMax);
  }
  last_but_one_ = std::move(last_);
  last_ = scaled;
}

}  // namespace evenkeel::algos
