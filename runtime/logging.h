// SPDX-License-Identifier: Apache-2.0
//
// Logging: how the daemons write their logs: one line per decision at info, per message at debug, to stderr,
// as "2026-01-31T12:00:00.123Z info controller: group a epoch 1.2 ...", lower case, key value pairs; or, for programs,
// as {"time":"2026-01-31T12:00:00.123Z","level":"info","logger":"controller","message":"group a epoch 1.2 ..."}.
//
// Threads:   SetUpLogging once, at the start of main; spdlog's own calls from any thread afterwards.
// Errors:    kInvalidArgument for an unknown level, with the list of known ones.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace evenkeel::runtime {

// The levels, quietest last: "trace", "debug", "info", "warning", "error", "off".
absl::Status ValidateLogLevel(absl::string_view level);

// "text" or "json".
absl::Status ValidateLogFormat(absl::string_view format);

// Makes `daemon` ("controller", "agent rank 3") the default logger of spdlog.
absl::Status SetUpLogging(const std::string& daemon, absl::string_view level, absl::string_view format = "text");

}  // namespace evenkeel::runtime
