// SPDX-License-Identifier: Apache-2.0
//
// Load histories between the core's values and messages, for the store.
//
// Threads:   pure functions.
// Errors:    kDataLoss where a window is not of the size that the message says.
#pragma once

#include "absl/status/statusor.h"

#include "controller/core/planning/load_history.h"

namespace evenkeel::v1 {
class LoadHistory;
}  // namespace evenkeel::v1

namespace evenkeel::controller {

void ToProto(const LoadHistory& value, v1::LoadHistory* message);

// Without kept_for.
absl::StatusOr<LoadHistory> LoadHistoryOf(const v1::LoadHistory& message);

}  // namespace evenkeel::controller
