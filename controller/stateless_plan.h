// SPDX-License-Identifier: Apache-2.0
//
// StatelessPlan: answers Control.Plan: a placement, its shares and its waves, from nothing but the request.
//
// Threads:   pure functions; they take as long as the policy does.
// Limits:    those of proto/evenkeel/v1/control.proto; nothing is allocated by a count that was not checked first.
// Errors:    kInvalidArgument naming the field by its path; else what the policy says.
#pragma once

#include <google/protobuf/repeated_ptr_field.h>

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "algos/placement.h"
#include "algos/problem.h"

namespace evenkeel::v1 {
class PlanPlacement;
class PlanRequest;
class PlanResponse;
}  // namespace evenkeel::v1

namespace evenkeel::controller {

absl::StatusOr<algos::Problem> ProblemOf(const v1::PlanRequest& request);

// Of any number of layers and slots within the protocol's limits, any experts; `path` names them in errors.
absl::StatusOr<std::vector<algos::Placement>> PlacementsOf(
    absl::string_view path, const google::protobuf::RepeatedPtrField<v1::PlanPlacement>& placements);

// `default_policy` plans where the request names none.
absl::StatusOr<v1::PlanResponse> PlanFor(const v1::PlanRequest& request, absl::string_view default_policy);

}  // namespace evenkeel::controller
