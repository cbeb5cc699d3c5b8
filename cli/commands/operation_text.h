// SPDX-License-Identifier: Apache-2.0
//
// Operations in words, for the commands that show them.
#pragma once

#include <string>

#include "proto/evenkeel/v1/control.pb.h"

namespace evenkeel::cli {

bool IsFinal(evenkeel::v1::OperationState state);
// "running", "done", ...
std::string StateText(evenkeel::v1::OperationState state);
// "operator", "slow loop", ...
std::string CauseText(evenkeel::v1::OperationCause cause);
// "12:03:59", local time.
std::string TimeText(int64_t unix_us);
// A table of what was decided about each layer, and why; empty where nothing is told of it.
std::string DecisionsText(const evenkeel::v1::Operation& operation);

}  // namespace evenkeel::cli
