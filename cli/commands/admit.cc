// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "algos/base/status_macros.h"
#include "cli/command.h"
#include "cli/commands/follow_operation.h"
#include "cli/commands/operation_text.h"
#include "cli/table.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr uint32_t kRankMax = 65'535;
constexpr Operand kOperands[] = {{"RANK...", "which ranks, for example 8 9 or 8-9"}};
constexpr Option kAdmitOptions[] = {
    {"group", "G", "which group; may be left out where there is one"},
    {"request-id", "ID", "asking twice with one id admits once"},
    {"timeout-s", "S", "stop waiting after S seconds; the admission goes on (default 3600)"},
};
constexpr Option kDrainOptions[] = {
    {"group", "G", "which group; may be left out where there is one"},
    {"grace", "S", "how long engines may go on with their requests once they hold no expert (default: the group's)"},
    {"request-id", "ID", "asking twice with one id drains once"},
    {"timeout-s", "S", "stop waiting after S seconds; the drain goes on (default 3600)"},
};

int Show(const Context& context, const v1::Operation& o) {
  if (context.json) {
    context.out << ToJson(o) << "\n";
  } else {
    context.out << absl::StrFormat("operation %s %s: %s\n%d moves (%d attempts failed), %s in %.1f s\n", o.id(),
                                   StateText(o.state()), o.detail(), o.num_moves_done(), o.num_moves_failed(),
                                   BytesText(o.bytes_done()),
                                   static_cast<double>(o.changed_unix_us() - o.started_unix_us()) * 1e-6);
  }
  return o.state() == v1::OPERATION_STATE_DONE ? kDone : kProblem;
}

// What both ask alike.
template <typename Request>
absl::StatusOr<absl::Duration> Fill(const Arguments& arguments, Request& request) {
  EVENKEEL_ASSIGN_OR_RETURN(const auto ranks, arguments.GetRanges("RANK...", kRankMax));
  request.mutable_ranks()->Add(ranks.begin(), ranks.end());
  request.set_group(arguments.Get("group"));
  request.set_request_id(arguments.Get("request-id"));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t timeout_s, arguments.GetInteger("timeout-s", 3600, 1, 604'800));
  return absl::Seconds(timeout_s);
}

absl::StatusOr<int> Admit(const Context& context) {
  v1::AdmitRankRequest request;
  EVENKEEL_ASSIGN_OR_RETURN(const absl::Duration timeout, Fill(context.arguments, request));
  const auto call = context.client->Call(timeout);
  const auto reader = context.client->stub().AdmitRank(call.get(), request);
  EVENKEEL_ASSIGN_OR_RETURN(const v1::Operation operation, FollowOperation(context, *reader, "admit"));
  return Show(context, operation);
}

absl::StatusOr<int> Drain(const Context& context) {
  v1::DrainRankRequest request;
  EVENKEEL_ASSIGN_OR_RETURN(const absl::Duration timeout, Fill(context.arguments, request));
  if (context.arguments.Has("grace")) {
    EVENKEEL_ASSIGN_OR_RETURN(const double grace_s, context.arguments.GetNumber("grace", 0, 0, 86'400));
    request.set_grace_ms(static_cast<uint64_t>(grace_s * 1000));
  }
  const auto call = context.client->Call(timeout);
  const auto reader = context.client->stub().DrainRank(call.get(), request);
  EVENKEEL_ASSIGN_OR_RETURN(const v1::Operation operation, FollowOperation(context, *reader, "drain"));
  return Show(context, operation);
}

}  // namespace

const Command kAdmitCommand = {
    "admit",
    "take ranks into a group that serves",
    "The rank's engine is started to join (docs/membership.md); it may come before or after this is asked. The others\n"
    "first accept it, then it is filled with experts while they serve, and only slots that were verified get tokens.\n"
    "A rank that was lost comes back by itself, unless auto_rejoin is off. Interrupting keelctl does not stop an\n"
    "admission: 'keelctl operations' shows how it goes on, 'keelctl operations cancel' ends its waiting.\n"
    "Exit status 0 once the ranks serve. --json prints the last evenkeel.v1.Operation.",
    kAdmitOptions,
    Admit,
    kOperands};

const Command kDrainCommand = {
    "drain",
    "empty ranks of experts, so that they may be terminated",
    "Routers see the ranks draining at once ('keelctl ranks --watch') and are to send them no new requests. Their\n"
    "experts are moved to the ranks that stay; then engines have the grace to end the requests that they still have,\n"
    "and leave the group as soon as they are idle. Once that is done they are safe to terminate. Any ranks may be\n"
    "drained, several at once, not only the last; not so many that the others have no room for every expert.\n"
    "Interrupting keelctl does not stop a drain; 'keelctl operations cancel' lets ranks that have not left stay.\n"
    "Exit status 0 once all have left. --json prints the last evenkeel.v1.Operation.",
    kDrainOptions,
    Drain,
    kOperands};

}  // namespace evenkeel::cli
