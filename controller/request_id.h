// SPDX-License-Identifier: Apache-2.0
//
// RequestId: what makes an operator's request idempotent; and what else of requests is text.
//
// Threads:   pure functions, but for MadeUpId's generator.
// Errors:    kInvalidArgument naming the field.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace evenkeel::controller {

// May be empty. 128 printable bytes at most.
absl::Status CheckRequestId(const std::string& id);

// Why an operator asks: 1,024 bytes at most.
absl::Status CheckReason(const std::string& reason);

// "pause-89ab...", never used before.
std::string MadeUpId(const char* what);

}  // namespace evenkeel::controller
