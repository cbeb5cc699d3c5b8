// SPDX-License-Identifier: Apache-2.0
#include "agent/core/load_fold.h"

#include <algorithm>
#include <utility>

#include "algos/base/check.h"

namespace evenkeel::agent {

LoadFold::LoadFold(const GroupInfo& group, RankId rank, std::vector<ExpertId> experts, std::vector<uint64_t> counters)
    : num_layers_(group.num_layers),
      slots_per_layer_(group.count_place == CountPlace::kRouter ? group.shape.num_slots() : group.shape.slots_per_rank),
      first_slot_(group.count_place == CountPlace::kRouter ? 0 : group.shape.SlotAt(rank, 0).value()),
      experts_(std::move(experts)),
      counters_(std::move(counters)),
      tokens_(counters_.size(), 0) {
  EVENKEEL_CHECK(counters_.size() == static_cast<size_t>(num_layers_) * static_cast<size_t>(slots_per_layer_));
  EVENKEEL_CHECK(experts_.size() == counters_.size());
}

int64_t LoadFold::IndexOf(LayerId layer, SlotIdx slot) const {
  const int local = slot.value() - first_slot_;
  if (local < 0 || local >= slots_per_layer_) return -1;
  return static_cast<int64_t>(layer.value()) * slots_per_layer_ + local;
}

void LoadFold::Fold(const CountersRead& reading) {
  if (reading.tokens_of_slot.size() != counters_.size()) return;
  for (size_t i = 0; i < counters_.size(); ++i) {
    const uint64_t now = reading.tokens_of_slot[i];
    if (now <= counters_[i]) continue;
    const uint64_t grown = now - std::exchange(counters_[i], now);
    if (experts_[i].valid()) {
      tokens_[i] += grown;
    } else {
      num_dropped_tokens_ += grown;
    }
  }
  // What was unrouted before this agent came is known to nobody.
  if (std::exchange(unrouted_known_, true) && reading.num_unrouted_tokens > unrouted_counter_) {
    unrouted_ += reading.num_unrouted_tokens - unrouted_counter_;
  }
  unrouted_counter_ = std::max(unrouted_counter_, reading.num_unrouted_tokens);
  if (!std::exchange(span_open_, true)) first_step_ = reading.first_step;
  last_step_ = std::max(last_step_, reading.last_step);
}

void LoadFold::SetExpert(LayerId layer, SlotIdx slot, ExpertId expert) {
  const int64_t index = IndexOf(layer, slot);
  if (index < 0) return;
  const size_t i = static_cast<size_t>(index);
  if (experts_[i] == expert) return;
  if (const uint64_t tokens = std::exchange(tokens_[i], 0); tokens > 0) {
    const auto key = std::tuple(layer, slot, experts_[i]);
    if (extras_.size() < kExtrasMax || extras_.contains(key)) {
      extras_[key] += tokens;
    } else {
      num_dropped_tokens_ += tokens;
    }
  }
  experts_[i] = expert;
}

ExpertId LoadFold::expert_of(LayerId layer, SlotIdx slot) const {
  const int64_t index = IndexOf(layer, slot);
  return index < 0 ? kNoExpert : experts_[static_cast<size_t>(index)];
}

LoadReport LoadFold::Take(absl::Time now) {
  LoadReport report{.time = now, .first_step = first_step_, .last_step = last_step_, .entries = {}};
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (tokens_[i] == 0) continue;
    const int index = static_cast<int>(i);
    report.entries.push_back({.layer = LayerId(index / slots_per_layer_),
                              .slot = SlotIdx(first_slot_ + index % slots_per_layer_),
                              .expert = experts_[i],
                              .tokens = std::exchange(tokens_[i], 0)});
  }
  for (const auto& [key, tokens] : extras_) {
    const auto& [layer, slot, expert] = key;
    report.entries.push_back({.layer = layer, .slot = slot, .expert = expert, .tokens = tokens});
  }
  extras_.clear();
  report.num_unrouted_tokens = std::exchange(unrouted_, 0);
  span_open_ = false;
  return report;
}

}  // namespace evenkeel::agent
