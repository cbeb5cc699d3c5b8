// SPDX-License-Identifier: Apache-2.0
//
// What agents say, between the wire and the cores' values. See convert_common.h for errors and limits.
//
// A stream's first message must be Attach; the later ones are checked against the group that it told.
#pragma once

#include "absl/status/statusor.h"

#include "algos/protocol/messages.h"

namespace evenkeel::v1 {
class AgentMessage;
}  // namespace evenkeel::v1

namespace evenkeel::proto {

// `group`: of the stream's Attach; null for its first message, which must be an Attach.
absl::StatusOr<AgentMessage> FromProto(const v1::AgentMessage& message, const GroupInfo* group);

// Requires: `value` is what FromProto would accept. Replaces all of `message`.
void ToProto(const AgentMessage& value, v1::AgentMessage* message);

}  // namespace evenkeel::proto
