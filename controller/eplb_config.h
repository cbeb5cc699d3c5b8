// SPDX-License-Identifier: Apache-2.0
//
// EplbConfig: what engines' users write into their `eplb_config`, as settings of ours.
//
// One JSON object, flat or as `eplb_config` inside `additional-config`, with the keys of vLLM, vllm-ascend and FastDeploy
// (docs/operator.md lists them from this module's table) and those of GroupConfig.
//
// Threads:   pure functions.
// Errors:    kInvalidArgument naming the key: unknown, of the wrong kind, or out of its range.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace evenkeel::v1 {
class ControllerConfig;
}  // namespace evenkeel::v1

namespace evenkeel::controller {

// Lays the settings over `config`'s defaults. What has another meaning here, or none, and old names come back as
// warnings.
absl::StatusOr<std::vector<std::string>> ApplyEplbConfig(const std::string& json, v1::ControllerConfig* config);

}  // namespace evenkeel::controller
