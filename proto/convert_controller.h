// SPDX-License-Identifier: Apache-2.0
//
// What the controller says to agents, between the wire and the cores' values. See convert_common.h for errors
// and limits.
#pragma once

#include "absl/status/statusor.h"

#include "algos/protocol/messages.h"

namespace evenkeel::v1 {
class ControllerMessage;
}  // namespace evenkeel::v1

namespace evenkeel::proto {

// `group`: the one that the agent told in its Attach.
absl::StatusOr<ControllerMessage> FromProto(const v1::ControllerMessage& message, const GroupInfo& group);

// Requires: `value` is what FromProto would accept. Replaces all of `message`.
void ToProto(const ControllerMessage& value, v1::ControllerMessage* message);

}  // namespace evenkeel::proto
