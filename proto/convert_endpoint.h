// SPDX-License-Identifier: Apache-2.0
//
// Endpoints: part of what both agents and the controller say. See convert_common.h for errors and limits.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "algos/protocol/messages.h"

namespace evenkeel::v1 {
class Endpoint;
}  // namespace evenkeel::v1

namespace evenkeel::proto {

absl::StatusOr<Endpoint> FromProto(absl::string_view field, const v1::Endpoint& message);
void ToProto(const Endpoint& value, v1::Endpoint* message);

}  // namespace evenkeel::proto
