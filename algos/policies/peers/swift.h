// SPDX-License-Identifier: Apache-2.0
//
// Swift: vllm-ascend's policy 2, SwiftBalanceEplb: from the placement that is there, choose the redundant replicas
// anew and exchange experts between ranks, with at most one expert from a rank to another.
// Source: vllm_ascend/eplb/core/policy/policy_swift_balancer.py.
//
// Layers are planned apart, on the sum of all episodes. The first replica of an expert (slot by slot over all ranks)
// stays; every other slot is redundant. Redundant slots go to the experts of the largest weight per replica, placed
// on the lightest rank that does not hold them; what the bound of a rank pair leaves blank is filled with the
// heaviest expert that the rank lacks. Then the heaviest rank exchanges one expert with the lightest rank that
// gains by it, up to 100 times. A layer below 1.01 imbalance, or that would not gain, keeps its placement.
// - swift_balancer: as published. Its weight of a replica after n extra ones is 2w/(n+2), where w/(n+1) is meant:
//   the factor is (r+1)/(r+2) for the r-th extra one. So copies look heavier than they are, and later rounds stall.
// - swift: the factor is r/(r+1). Nothing else differs: in both, what counts as a gain, and the mean load that decides
//   whether a layer gained, are those of layer 0, as published (the same for layers with equal numbers of tokens).
// Where the peer iterates over CPython sets, experts are taken in ascending order here: it decides which of two
// equally good exchanges is made, and the order in which arriving experts fill the slots of a rank.
// Without `current`, the default placement stands for it. Blank slots, which the peer has none of, count as redundant;
// an expert that is nowhere is first put into one, or in the place of a replica of the expert with most of them.
// The peer's flag that asks for a gain of 5 % is not part of it: its worker does not look at it either.
//
// Errors:    kInvalidArgument where Validate refuses, for dead ranks, and for more slots a rank than experts.
// Order:     ranks of equal load by lowest id; experts of equal weight by highest id when they are chosen for another
//            replica, by lowest when those are placed.
#pragma once

#include <vector>

#include "absl/status/statusor.h"

#include "algos/placement.h"
#include "algos/policy.h"
#include "algos/problem.h"

namespace evenkeel::algos {

absl::StatusOr<std::vector<Placement>> PlanSwiftBalancer(const Problem& problem);
absl::StatusOr<std::vector<Placement>> PlanSwift(const Problem& problem);

// The same, as listed by the registry: split evenly; no options.
absl::StatusOr<std::vector<LayerPlan>> SwiftBalancerPolicy(const Problem& problem, const PolicyConfig& config);
absl::StatusOr<std::vector<LayerPlan>> SwiftPolicy(const Problem& problem, const PolicyConfig& config);

}  // namespace evenkeel::algos
