// SPDX-License-Identifier: Apache-2.0
//
// GroupConfig: a group's part of the configuration, between its message and the core's settings; and the small
// readers that check one field each. Limits and defaults are stated in proto/evenkeel/v1/config.proto.
//
// Errors:    kInvalidArgument naming the field by its full path.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "controller/core/event.h"

namespace evenkeel::v1 {
class GroupConfig;
}  // namespace evenkeel::v1

namespace evenkeel::controller {

struct FieldRange {
  std::string path;
  uint64_t low;
  uint64_t high;
};

// Each leaves `*target` as it is where the field is not set (`has`).
absl::Status ReadMs(const FieldRange& range, bool has, uint64_t value, absl::Duration* target);
absl::Status ReadCount(const FieldRange& range, bool has, uint64_t value, int* target);

// Lays what `config` sets over `*settings`, which are what `below` made of the built-in ones.
absl::Status ReadGroup(absl::string_view path, const v1::GroupConfig& config, const v1::GroupConfig& below,
                       GroupSettings* settings);

// Every field.
void WriteGroup(const GroupSettings& settings, v1::GroupConfig* config);

}  // namespace evenkeel::controller
