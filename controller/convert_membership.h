// SPDX-License-Identifier: Apache-2.0
//
// Who is in a group, as a message.
//
// Threads:   pure functions.
#pragma once

#include "controller/core/ranks/rank_status.h"

namespace evenkeel::v1 {
class GroupMembership;
}  // namespace evenkeel::v1

namespace evenkeel::controller {

void ToProto(const MembershipStatus& value, v1::GroupMembership* message);

}  // namespace evenkeel::controller
