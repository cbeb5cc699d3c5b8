// SPDX-License-Identifier: Apache-2.0
//
// GroupBytes: how much a group's tables and experts take, without overflow at the largest sizes that messages may state.
#pragma once

#include <cstdint>

#include "algos/protocol/messages.h"
#include "controller/core/event.h"

namespace evenkeel::controller {

// An estimate from above of what a group of this shape takes once all its windows are full, but for what allocators add.
uint64_t GroupBytes(const GroupInfo& info, const GroupSettings& settings);

// Of `count` experts; the most there is a number for where it is more.
uint64_t ExpertBytes(int count, const GroupInfo& info);

}  // namespace evenkeel::controller
