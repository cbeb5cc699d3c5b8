// SPDX-License-Identifier: Apache-2.0
#include "algos/flex/episode_memory.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "algos/base/check.h"

namespace evenkeel::algos {

EpisodeMemory::EpisodeMemory(const Options& options)
    : options_(options),
      block_(static_cast<size_t>(options.num_layers) * static_cast<size_t>(options.num_experts), 0.0) {}

void EpisodeMemory::Observe(const Load& window) {
  EVENKEEL_CHECK(window.tokens.size() == block_.size());
  for (size_t i = 0; i < block_.size(); ++i) block_[i] += static_cast<double>(window.tokens[i]);
  for (Episode& episode : episodes_) episode.weight *= options_.fading;
  if (++num_in_block_ < options_.windows_per_block) return;
  num_in_block_ = 0;
  ++version_;
  Episode episode{.parts = block_, .weight = 1};
  const size_t num_experts = static_cast<size_t>(options_.num_experts);
  for (size_t first = 0; first < block_.size(); first += num_experts) {
    double sum = 0;
    for (size_t i = first; i < first + num_experts; ++i) sum += block_[i];
    for (size_t i = first; i < first + num_experts && sum > 0; ++i) episode.parts[i] /= sum;
  }
  block_.assign(block_.size(), 0.0);
  std::vector<double> distances;
  for (const Episode& other : episodes_) distances.push_back(Distance(other, episode));
  distances_.push_back(std::move(distances));
  episodes_.push_back(std::move(episode));
  if (episodes_.size() > static_cast<size_t>(options_.num_kept_max)) MergeNearest();
}

double EpisodeMemory::Distance(const Episode& a, const Episode& b) const {
  double sum = 0;
  for (size_t i = 0; i < a.parts.size(); ++i) {
    const double both = a.parts[i] + b.parts[i], apart = a.parts[i] - b.parts[i];
    if (both > 0) sum += apart * apart / both;
  }
  return sum;
}

void EpisodeMemory::MergeNearest() {
  size_t into = 0, from = 1;
  for (size_t i = 1; i < episodes_.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (distances_[i][j] < distances_[from][into]) from = i, into = j;
    }
  }
  Episode& merged = episodes_[into];
  const double weight = merged.weight + episodes_[from].weight;
  const double part = weight > 0 ? episodes_[from].weight / weight : 0.5;
  for (size_t i = 0; i < merged.parts.size(); ++i) {
    merged.parts[i] += part * (episodes_[from].parts[i] - merged.parts[i]);
  }
  merged.weight = weight;
  episodes_.erase(episodes_.begin() + static_cast<std::ptrdiff_t>(from));
  distances_.erase(distances_.begin() + static_cast<std::ptrdiff_t>(from));
  for (size_t i = from; i < distances_.size(); ++i) {
    distances_[i].erase(distances_[i].begin() + static_cast<std::ptrdiff_t>(from));
  }
  for (size_t i = 0; i < episodes_.size(); ++i) {
    if (i == into) continue;
    distances_[std::max(i, into)][std::min(i, into)] =
        Distance(episodes_[std::min(i, into)], episodes_[std::max(i, into)]);
  }
}

}  // namespace evenkeel::algos
