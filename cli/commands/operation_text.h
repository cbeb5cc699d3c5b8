// SPDX-License-Identifier: Apache-2.0
//
// Operations in words, for the commands that show them.
#pragma once

#include <cstdint>
#include <string>

#include "proto/evenkeel/v1/control.pb.h"

namespace evenkeel::cli {

bool IsFinal(evenkeel::v1::OperationState state);
// A pause, a mode or a pin: not done, but in force until it is ended.
bool Stands(evenkeel::v1::OperationCause cause);
// "running", "done", ...
std::string StateText(evenkeel::v1::OperationState state);
// "operator", "slow loop", ...
std::string CauseText(evenkeel::v1::OperationCause cause);
// "12:03:59", local time.
std::string TimeText(int64_t unix_us);
// An operation that has ended, in two lines.
std::string ResultText(const evenkeel::v1::Operation& operation);
// "ann (127.0.0.1:4711)": who asked for it; "the controller" where nobody did.
std::string AskerText(const evenkeel::v1::Operation& operation);
// "alert since 12:03:59: ...", or "was an alert from ... to ...: ...".
std::string AlertText(const evenkeel::v1::Alert& alert);
// What the controller does by itself in the mode in force, and who set that.
std::string ModeText(const evenkeel::v1::Group& group);
// A table of what was decided about each layer, and why; empty where nothing is told of it.
std::string DecisionsText(const evenkeel::v1::Operation& operation);

}  // namespace evenkeel::cli
