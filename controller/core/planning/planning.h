// SPDX-License-Identifier: Apache-2.0
//
// Planning: what functions that plan for a group are given.
//
// Threads:   none; borrows all it names.
#pragma once

#include <cstdint>

#include "controller/core/group_state.h"
#include "controller/core/operations.h"

namespace evenkeel::controller {

struct Planning {
  GroupState& group;
  Operations& operations;
  uint64_t& next_plan_id;  // of the coordinator
};

}  // namespace evenkeel::controller
