// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/meeting.h"

#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

namespace evenkeel::engine {
namespace {

constexpr absl::Duration kGreetPeriod = absl::Milliseconds(20);

// As found by the server or by the client.
std::optional<ExchangeServer::Misfit> FindMisfit(int num_ranks, const ExchangeClient& client,
                                                 const ExchangeServer& server) {
  if (auto misfit = server.misfit()) return misfit;
  for (int rank = 0; rank < num_ranks; ++rank) {
    if (!client.enmity(rank).empty()) return ExchangeServer::Misfit{.rank = rank, .what = client.enmity(rank)};
  }
  return std::nullopt;
}

absl::Status Part(const MeetingOptions& options, const ExchangeServer::Misfit& misfit, const ExchangeClient& client,
                  ExchangeServer& server) {
  server.Refuse(misfit.what);
  const absl::Time deadline = absl::Now() + options.tell_within;
  for (int rank = 0; rank < options.num_ranks && absl::Now() < deadline;) {
    if (rank == options.rank || server.HasTold(rank) || !client.enmity(rank).empty()) {
      ++rank;
    } else if (options.stop_within(kGreetPeriod)) {
      break;
    }
  }
  return absl::FailedPreconditionError(absl::StrCat("cannot work with rank ", misfit.rank, ": ", misfit.what));
}

}  // namespace

absl::StatusOr<Meeting> MeetPeers(const MeetingOptions& options, ExchangeClient& client, ExchangeServer& server) {
  const absl::Time deadline = absl::Now() + options.within;
  for (;;) {
    const absl::Time now = absl::Now();
    const std::vector<int> missing = client.Greet(now);
    if (const auto misfit = FindMisfit(options.num_ranks, client, server)) {
      return Part(options, *misfit, client, server);
    }
    for (int rank = 0; rank < options.num_ranks; ++rank) {
      if (client.epoch_of(rank) != 0) return Meeting::kGroupUnderWay;
    }
    if (missing.empty()) return Meeting::kComplete;
    if (now > deadline) {
      std::string text = absl::StrCat("no engine in ", options.place, " for rank ", absl::StrJoin(missing, ", "),
                                      " of ", options.num_ranks);
      for (const int rank : missing) {
        const std::string error = options.last_error(rank);
        if (!error.empty()) absl::StrAppend(&text, "; rank ", rank, " has ended: ", error);
      }
      return absl::DeadlineExceededError(text);
    }
    if (options.stop_within(kGreetPeriod)) return absl::CancelledError("stopped while starting");
  }
}

}  // namespace evenkeel::engine
