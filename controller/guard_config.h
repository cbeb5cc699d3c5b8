// SPDX-License-Identifier: Apache-2.0
//
// GuardConfig: what a group's configuration says of its guard and of hours in which it is frozen, between its message and
// the core's settings. Limits and defaults are stated in proto/evenkeel/v1/config.proto.
//
// Errors:    kInvalidArgument naming the field by its full path.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "controller/core/event.h"

namespace evenkeel::v1 {
class GroupConfig;
}  // namespace evenkeel::v1

namespace evenkeel::controller {

// Lays what `config` sets over `*settings`; freezes go in place of those there are.
absl::Status ReadGuard(absl::string_view path, const v1::GroupConfig& config, GroupSettings* settings);

void WriteGuard(const GroupSettings& settings, v1::GroupConfig* config);

}  // namespace evenkeel::controller
