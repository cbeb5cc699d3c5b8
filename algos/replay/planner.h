// SPDX-License-Identifier: Apache-2.0
//
// Planner: who decides, in a replay, what each layer is to hold. It is asked before every window and knows no load
// but those of the windows before.
//
// EveryWindows makes one out of any policy: it re-plans all layers at fixed moments on the last windows.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "algos/placement.h"
#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::algos {

struct Moment {
  int window = 0;                         // about to begin; 0 is the first
  std::span<const Load> past;             // [window] loads, oldest first
  std::span<const Placement> placements;  // [num_layers] what each layer holds, or is on its way to
};

// What is new: empty, or [num_layers] with the plans of the layers that change. A plan with shares of its own keeps
// them until the next one.
using LayerChanges = std::vector<std::optional<LayerPlan>>;
using Planner = std::function<absl::StatusOr<LayerChanges>(const Moment&)>;

struct CadenceOptions {
  int interval = 100;       // windows between plans, > 0
  int history = 0;          // windows that a plan is made from; 0: as many as the interval
  int aligned_to = 0;       // plans are made before this window and every `interval` before and after it
  std::string policy = {};  // of the registry
  PolicyConfig config = {};
  Problem problem = {};  // episodes and current are filled in
};

// kInvalidArgument for an interval or history below 1, kNotFound for an unknown policy.
absl::StatusOr<Planner> EveryWindows(CadenceOptions options);

// Leaves everything as it is.
Planner NeverPlans();

}  // namespace evenkeel::algos
