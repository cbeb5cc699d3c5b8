// SPDX-License-Identifier: Apache-2.0
#include "algos/policy.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace evenkeel::algos {

absl::StatusOr<std::vector<double>> ReadOptions(std::string_view policy, std::span<const PolicyOption> known,
                                                const PolicyConfig& config) {
  const std::string who = absl::StrCat("policy ", std::string(policy));
  for (const auto& [name, value] : config.options) {
    if (std::ranges::find(known, std::string_view(name), &PolicyOption::name) != known.end()) continue;
    std::string names;
    for (const PolicyOption& option : known) {
      absl::StrAppend(&names, names.empty() ? "" : ", ", std::string(option.name));
    }
    return absl::InvalidArgumentError(
        absl::StrCat(who, ": no option '", name, "'; it has ", names.empty() ? "none" : names));
  }
  std::vector<double> values;
  for (const PolicyOption& option : known) {
    const auto named = config.options.find(std::string(option.name));
    const double value = named == config.options.end() ? option.value : named->second;
    if (!(value >= option.min && value <= option.max)) {
      return absl::InvalidArgumentError(absl::StrCat(who, ": option ", std::string(option.name), " is ", value,
                                                     "; it goes from ", option.min, " to ", option.max));
    }
    values.push_back(value);
  }
  return values;
}

std::vector<LayerPlan> WithEvenShares(std::vector<Placement> placements) {
  std::vector<LayerPlan> plans;
  plans.reserve(placements.size());
  for (Placement& placement : placements) plans.push_back({.placement = std::move(placement)});
  return plans;
}

std::vector<Placement> PlacementsOf(std::vector<LayerPlan> plans) {
  std::vector<Placement> placements;
  placements.reserve(plans.size());
  for (LayerPlan& plan : plans) placements.push_back(std::move(plan.placement));
  return placements;
}

}  // namespace evenkeel::algos
