// SPDX-License-Identifier: Apache-2.0
//
// PublishTimes: when the epochs were published that some member has not quiesced at yet.
//
// Threads:   none; functions over a GroupState.
// Limits:    GroupState::kPublishTimesKept epochs; a member further behind seems as late as the oldest kept.
#pragma once

#include "absl/time/time.h"

#include "algos/protocol/identity.h"
#include "controller/core/group_state.h"

namespace evenkeel::controller {

// The group's newest epoch was published now.
void NotePublish(GroupState& group, absl::Time now);

// How long maps newer than `quiesced` have been published; zero where there are none.
absl::Duration LagOf(const GroupState& group, Epoch quiesced, absl::Time now);

}  // namespace evenkeel::controller
