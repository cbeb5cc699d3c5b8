// SPDX-License-Identifier: Apache-2.0
#include "agent/core/load_fold.h"

#include <algorithm>
#include <utility>

#include "algos/base/check.h"

namespace evenkeel::agent {

LoadFold::LoadFold(const GroupInfo& group, RankId rank, std::vector<ExpertId> experts, const CountersRead& found)
    : num_layers_(group.num_layers),
      slots_per_layer_(group.count_place == CountPlace::kRouter ? group.shape.num_slots() : group.shape.slots_per_rank),
      first_slot_(group.count_place == CountPlace::kRouter ? 0 : group.shape.SlotAt(rank, 0).value()),
      experts_(std::move(experts)),
      counters_(found.tokens_of_slot.size()),
      tokens_(counters_.size()) {
  EVENKEEL_CHECK(counters_.size() == static_cast<size_t>(num_layers_) * static_cast<size_t>(slots_per_layer_));
  EVENKEEL_CHECK(experts_.size() == counters_.size());
  for (size_t i = 0; i < counters_.size(); ++i) {
    Grown(found.tokens_of_slot, i, counters_[i].all);
    Grown(found.prefill_of_slot, i, counters_[i].prefill);
    Grown(found.decode_of_slot, i, counters_[i].decode);
  }
}

uint64_t LoadFold::Grown(const std::vector<uint64_t>& reading, size_t index, uint64_t& counter) {
  if (index >= reading.size() || reading[index] <= counter) return 0;
  return reading[index] - std::exchange(counter, reading[index]);
}

void LoadFold::Add(const Tokens& more, Tokens& tokens) {
  tokens.all += more.all;
  tokens.prefill += more.prefill;
  tokens.decode += more.decode;
}

int64_t LoadFold::IndexOf(LayerId layer, SlotIdx slot) const {
  const int local = slot.value() - first_slot_;
  if (local < 0 || local >= slots_per_layer_) return -1;
  return static_cast<int64_t>(layer.value()) * slots_per_layer_ + local;
}

void LoadFold::Fold(const CountersRead& reading) {
  if (reading.tokens_of_slot.size() != counters_.size()) return;
  for (size_t i = 0; i < counters_.size(); ++i) {
    // In this order, so that the parts never exceed the whole.
    const uint64_t grown = Grown(reading.tokens_of_slot, i, counters_[i].all);
    const uint64_t prefill = std::min(grown, Grown(reading.prefill_of_slot, i, counters_[i].prefill));
    const uint64_t decode = std::min(grown - prefill, Grown(reading.decode_of_slot, i, counters_[i].decode));
    if (experts_[i].valid()) {
      Add({.all = grown, .prefill = prefill, .decode = decode}, tokens_[i]);
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
  if (const Tokens tokens = std::exchange(tokens_[i], Tokens()); tokens.all > 0) {
    const auto key = std::tuple(layer, slot, experts_[i]);
    if (extras_.size() < kExtrasMax || extras_.contains(key)) {
      Add(tokens, extras_[key]);
    } else {
      num_dropped_tokens_ += tokens.all;
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
    if (tokens_[i].all == 0) continue;
    const Tokens tokens = std::exchange(tokens_[i], Tokens());
    const int index = static_cast<int>(i);
    report.entries.push_back({.layer = LayerId(index / slots_per_layer_),
                              .slot = SlotIdx(first_slot_ + index % slots_per_layer_),
                              .expert = experts_[i],
                              .tokens = tokens.all,
                              .prefill_tokens = tokens.prefill,
                              .decode_tokens = tokens.decode});
  }
  for (const auto& [key, tokens] : extras_) {
    const auto& [layer, slot, expert] = key;
    report.entries.push_back({.layer = layer,
                              .slot = slot,
                              .expert = expert,
                              .tokens = tokens.all,
                              .prefill_tokens = tokens.prefill,
                              .decode_tokens = tokens.decode});
  }
  extras_.clear();
  report.num_unrouted_tokens = std::exchange(unrouted_, 0);
  span_open_ = false;
  return report;
}

}  // namespace evenkeel::agent
