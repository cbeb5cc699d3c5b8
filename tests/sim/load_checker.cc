// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/load_checker.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace evenkeel::sim {

LoadChecker::Tally& LoadChecker::Of(const RegionModel& region) {
  if (region.id() >= tallies_.size()) tallies_.resize(region.id() + 1);
  Tally& tally = tallies_[region.id()];
  if (tally.computed.empty()) {
    const size_t size = static_cast<size_t>(region.info().num_layers * region.info().shape.num_experts);
    const std::vector<uint64_t> none(size);
    tally = {.computed = none, .reported = none, .readings = {none}};
  }
  return tally;
}

void LoadChecker::Computed(const RegionModel& region, LayerId layer, ExpertId expert, uint64_t tokens) {
  Of(region).computed[layer.idx() * static_cast<size_t>(region.info().shape.num_experts) + expert.idx()] += tokens;
}

void LoadChecker::Read(const RegionModel& region) {
  Tally& tally = Of(region);
  tally.readings.push_back(tally.computed);
}

void LoadChecker::TakenOver(const RegionModel& region) {
  Tally& tally = Of(region);
  tally.reported = tally.computed;
  tally.readings = {tally.computed};
}

void LoadChecker::Reported(const RegionModel& region, const LoadReport& report) {
  Tally& tally = Of(region);
  const size_t num_experts = static_cast<size_t>(region.info().shape.num_experts);
  for (const LoadReport::Entry& entry : report.entries) {
    if (!entry.expert.valid()) {
      if (entry.tokens > 0) {
        trace_->Violation(absl::StrCat("group ", region.group_idx(), " rank ", region.rank(), ": ", entry.tokens,
                                       " tokens of slot ", entry.slot.value(), " are credited to no expert"));
      }
      continue;
    }
    tally.reported[entry.layer.idx() * num_experts + entry.expert.idx()] += entry.tokens;
    tokens_reported_ += entry.tokens;
  }
  const auto match = std::find(tally.readings.begin(), tally.readings.end(), tally.reported);
  if (match != tally.readings.end()) {
    tally.readings.erase(tally.readings.begin(), match);
    return;
  }
  const std::vector<uint64_t>& read = tally.readings.back();
  for (size_t i = 0; i < read.size(); ++i) {
    if (tally.reported[i] == read[i]) continue;
    trace_->Violation(absl::StrCat("group ", region.group_idx(), " rank ", region.rank(), ": layer ", i / num_experts,
                                   " expert ", i % num_experts, " was credited ", tally.reported[i],
                                   " tokens, which no reading says; the last says ", read[i]));
    return;
  }
}

}  // namespace evenkeel::sim
