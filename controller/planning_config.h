// SPDX-License-Identifier: Apache-2.0
//
// PlanningConfig: what a group's configuration says of planning, between its message and the core's settings. Limits
// and defaults are stated in proto/evenkeel/v1/config.proto.
//
// Errors:    kInvalidArgument naming the field by its full path.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "controller/core/planning/planning_settings.h"

namespace evenkeel::v1 {
class GroupConfig;
}  // namespace evenkeel::v1

namespace evenkeel::controller {

// Lays `policy` and what else `config` sets over `*policy` and `*settings`, and checks that policies have their options.
absl::Status ReadPlanning(absl::string_view path, const v1::GroupConfig& config, std::string* policy,
                          PlanningSettings* settings);

// Every field but `policy`.
void WritePlanning(const PlanningSettings& settings, v1::GroupConfig* config);

}  // namespace evenkeel::controller
