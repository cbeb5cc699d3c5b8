// SPDX-License-Identifier: Apache-2.0
//
// MeetPeers: how an engine finds the others of its group before it serves.
//
// Engines that do not fit do not serve together: whoever notices tells the other why, and each of them ends. A third
// rank that fits one of them would wait for both, so one that ends tells all it knows first, and stays for a moment
// for those who are about to ask. Whoever comes later still waits, as the others may be started anew, and says at last
// why they ended.
//
// Threads:   the caller's; another one polls the server.
// Errors:    kFailedPrecondition: an engine that does not fit, with its rank and what differs; kDeadlineExceeded: ranks
//            that did not come; kCancelled: stopped.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "engine/reference/exchange_client.h"
#include "engine/reference/exchange_server.h"

namespace evenkeel::engine {

struct MeetingOptions {
  int rank = 0;
  int num_ranks = 1;  // that make the group
  std::string place;  // where the others are looked for
  absl::Duration within;
  absl::Duration tell_within = absl::Seconds(1);  // why this engine ends
  // Waits for at most that long; whether to stop.
  std::function<bool(absl::Duration)> stop_within;
  // Why the last engine of a rank that did not come has ended; empty: not known.
  std::function<std::string(int)> last_error;
};

enum class Meeting {
  kComplete,       // every peer has greeted
  kGroupUnderWay,  // one of them has left the default placement
};

absl::StatusOr<Meeting> MeetPeers(const MeetingOptions& options, ExchangeClient& client, ExchangeServer& server);

}  // namespace evenkeel::engine
