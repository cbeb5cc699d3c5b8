// SPDX-License-Identifier: Apache-2.0
//
// Speech: whether what listens at an address speaks TLS or plain gRPC, so that a client that speaks the other can be told.
#pragma once

#include <string>

#include "absl/time/time.h"

namespace evenkeel::cli {

enum class Speech { kUnknown, kPlain, kTls };

// Connects and greets as a plain HTTP/2 client does; waits at most so long.
Speech SpeechOf(const std::string& address, absl::Duration at_most = absl::Seconds(2));

}  // namespace evenkeel::cli
