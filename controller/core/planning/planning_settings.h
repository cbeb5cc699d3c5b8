// SPDX-License-Identifier: Apache-2.0
//
// PlanningSettings: how a group's placements are planned, beside the policy and the slow loop's intervals: by what
// policy for each phase, on which episodes, which layers, and within what budgets.
//
// Plain values, valid by construction (the configuration's converter checks them), except against a group's sizes,
// which are known when it attaches: CheckFits.
//
// Errors:    CheckFits answers kInvalidArgument naming the setting.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

#include "algos/problem.h"
#include "algos/protocol/messages.h"

namespace evenkeel::controller {

using PolicyOptions = absl::btree_map<std::string, double>;

// Of one phase; without a name the phase has no policy of its own.
struct PhasePolicy {
  std::string name;
  PolicyOptions options;

  friend bool operator==(const PhasePolicy&, const PhasePolicy&) = default;
};

struct PlanningSettings {
  PolicyOptions policy_options;  // of GroupSettings::policy
  // While a phase costs more than the other, its policy plans, on its episodes alone (docs/design.md, section 7).
  PhasePolicy prefill, decode;
  // An episode is the fewest whole windows that hold this many engine steps; 0: one window.
  int episode_steps = 0;
  // The slow loop is woken whenever so many engine steps were reported, as well as by time; 0: by time alone.
  int placement_interval_steps = 0;

  // Layers of less predicted imbalance are not planned; up to 1 all are.
  double layer_imbalance_min = 1.0;
  // Nor are layers whose load moved by less since it was last decided about them: 1 - cosine similarity, 0 to 1.
  double min_fluctuation = 0;
  // Nor those rearranged within so many windows, unless imbalance is above what was promised by this rise.
  int layer_rest_windows = 0;
  double layer_rest_rise = 0.1;

  // Budgets of the controller's own plans; 0: no limit.
  int layers_max = 0;                       // a plan, those of the greatest gain first
  int moves_per_layer_max = 0;              // a plan
  double layer_moves_per_100_windows = 10;  // a layer, saved up over 100 windows at most
  uint64_t bytes_per_plan_max = 0;

  int num_expert_groups = 1;       // groups of experts that routing keeps together; divides num_experts
  std::vector<double> capacities;  // [num_ranks] relative speeds, or empty: all equal
  algos::RankCost cost;
  std::vector<algos::Pin> pins;
  algos::Survive survive;  // losses that no expert's last replica is to be among

  friend bool operator==(const PlanningSettings&, const PlanningSettings&) = default;
};

// What a group's slow loop is paced by unless it is configured: flex makes few moves whenever one pays, others plan
// anew at times.
struct Pace {
  absl::Duration placement_interval;
  double layer_moves_per_100_windows = 0;
};
Pace PaceOf(std::string_view policy);

// The settings' capacities and pins are within `group`.
absl::Status CheckFits(const PlanningSettings& settings, const GroupInfo& group);

}  // namespace evenkeel::controller
