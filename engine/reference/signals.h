// SPDX-License-Identifier: Apache-2.0
//
// Signals: how a process is told to end: SIGTERM or SIGINT, taken where it waits for them.
#pragma once

#include "absl/time/time.h"

namespace evenkeel::engine {

// For this thread and those that it starts; to be called before any is started.
void BlockEndSignals();

// The signal that arrived within `timeout`, or 0. Requires: BlockEndSignals.
int WaitForEndSignal(absl::Duration timeout);

}  // namespace evenkeel::engine
