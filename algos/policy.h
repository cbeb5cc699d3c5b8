// SPDX-License-Identifier: Apache-2.0
//
// Policy: from the loads of a group to a placement of every layer, with shares. All policies share these values;
// policies/registry.h lists them.
//
// A policy is a pure function: same Problem and config, same result, on every machine. Ties go to the lowest id.
//
// Errors:    kInvalidArgument for problems that Validate refuses, for options that the policy does not have, and
//            for what it cannot express (named).
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/statusor.h"

#include "algos/layer_map.h"
#include "algos/placement.h"
#include "algos/problem.h"

namespace evenkeel::algos {

struct LayerPlan {
  Placement placement;
  Shares shares = {};  // parallel to Invert(placement).slots; empty: tokens are split evenly among replicas

  friend bool operator==(const LayerPlan&, const LayerPlan&) = default;
};

// What a policy is told beside the problem.
struct PolicyConfig {
  absl::btree_map<std::string, double> options = {};  // by PolicyOption::name; those not named keep their defaults
  std::vector<Placement> placements = {};             // `static` alone: [num_layers], from a file
};

// An option of a policy, with its bounds (both included).
struct PolicyOption {
  std::string_view name;
  double value = 0;  // where it is not named
  double min = 0;
  double max = 0;
  std::string_view summary;
};

// [num_layers] plans; layers that are not planned keep their current placement, without shares.
using Policy = absl::StatusOr<std::vector<LayerPlan>> (*)(const Problem& problem, const PolicyConfig& config);

struct NamedPolicy {
  std::string_view name;
  std::string_view summary;
  Policy plan = nullptr;
  std::span<const PolicyOption> options = {};
  std::string_view alias = {};  // another name that FindPolicy knows: the peer's number of it; empty: none
  // Whether, so configured, the plan of a layer depends on nothing of other layers, nor on its number. Null: it does.
  bool (*plans_layers_apart)(const PolicyConfig& config) = nullptr;
};

// The value of each of `known`, in order. kInvalidArgument, naming `policy`, for an option that is not among them
// or is out of its bounds.
absl::StatusOr<std::vector<double>> ReadOptions(std::string_view policy, std::span<const PolicyOption> known,
                                                const PolicyConfig& config);

// Plans without shares, for policies that split evenly.
std::vector<LayerPlan> WithEvenShares(std::vector<Placement> placements);
std::vector<Placement> PlacementsOf(std::vector<LayerPlan> plans);

}  // namespace evenkeel::algos
