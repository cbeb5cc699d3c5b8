// SPDX-License-Identifier: Apache-2.0
//
// FlashLB: the policy `flashlb`, vllm-ascend's: replica counts and places found together by a tree search over the
// heat of many episodes, layer by layer; then the layers that gain are picked.
//
// As there (version of 2026): Problem::episodes are its steps, summed to at most `sample_size` episodes
// (layer_heat.h); a layer is planned where its current placement is less balanced than the thresholds say;
// the plan (tree_search.h) is put where most of it is already (relabel.h); of layers whose balancedness (mean over
// episodes) gains, at most `update_layers_upper_bound` take their plans, those that gain most first. All others
// keep what they have.
//
// What is not as there: the balancedness at the last planning is an option, as a policy remembers nothing;
// by default every layer counts as never planned, and is. Layers that do not gain do keep their placement.
// Where all ranks with a free slot hold an expert already, one of them gets it twice. A layer whose current
// placement lacks an expert takes its plan in any case. `lpt_incremental` keeps every expert in place whose number
// of replicas stays, but for the `incremental_hottest` with most heat per replica, and packs the others.
//
// Errors:    those of Validate and ReadOptions.
#pragma once

#include <vector>

#include "absl/status/statusor.h"

#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::algos {

inline constexpr PolicyOption kFlashlbOptions[] = {
    {"depth", 4, 1, 64, "groups of experts whose shares of the redundant slots are decided one after another"},
    {"width", 8, 0, 1024, "how far a share may be from that of a plain allotment"},
    {"z_score", 0.6744897501960817, 0, 10, "deviations that count beside the mean"},
    {"sample_size", 64, 1, 4096, "episodes at most"},
    {"allotment", 0, 0, 2, "0 min_max, 1 max_delta, 2 percentage"},
    {"update_layers_upper_bound", -1, -1, 1e6, "layers that may change; 0 or less: all"},
    {"update_threshold_ratio", 0, 0, 1, "of the last balancedness; 0: 0.9, with fewer than 32 ranks 0.95"},
    {"update_threshold_value", 0, 0, 1, "balancedness; 0: 0.85, with fewer than 32 ranks 0.9"},
    {"last_average_to_peak", 0, 0, 1, "balancedness when the layers were planned last; 0: they never were"},
    {"lpt_incremental", 0, 0, 1, "1: only the hottest experts, and those with more or fewer replicas, may move"},
    {"incremental_hottest", 16, 0, 1e6, "how many experts count as hottest"},
};

// Where layers do not compete for `update_layers_upper_bound`.
bool FlashlbPlansLayersApart(const PolicyConfig& config);

absl::StatusOr<std::vector<LayerPlan>> FlashlbPolicy(const Problem& problem, const PolicyConfig& config);

}  // namespace evenkeel::algos
