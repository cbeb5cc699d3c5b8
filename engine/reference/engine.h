// SPDX-License-Identifier: Apache-2.0
//
// RunEngine: the whole reference engine, from its options to its exit.
//
// Threads:   one per lane for steps, one for what other ranks ask; the caller's writes the status file and waits for
//            SIGTERM and SIGINT, which the call blocks for the whole process.
// Errors:    kInvalidArgument: an option or model file is wrong; otherwise why it could not serve or go on, or that
//            mismatched tokens or stale slot uses were counted.
#pragma once

#include "absl/status/status.h"

#include "engine/reference/options.h"

namespace evenkeel::engine {

absl::Status RunEngine(const EngineOptions& options);

}  // namespace evenkeel::engine
