// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "algos/base/status_macros.h"
#include "cli/command.h"
#include "cli/commands/operation_text.h"
#include "cli/table.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr Option kOptions[] = {
    {"group", "G", "which group; may be left out where there is one"},
    {"id", "ID", "of this operation, instead of the last decision"},
    {"layers", "", "of each layer, also of those that were left alone"},
};

std::string Seconds(int64_t us) { return absl::StrFormat("%.3f s", static_cast<double>(us) * 1e-6); }

void ShowState(const Context& context, const v1::Group& group) {
  if (!group.mode().empty() && group.mode() != "full") context.out << ModeText(group) << "\n";
  if (group.shadow_shares().num_layers() > 0) {
    context.out << absl::StrFormat(
        "shares of %d layers would change: imbalance %s to %s (%s, mode shadow)\n", group.shadow_shares().num_layers(),
        ImbalanceText(group.shadow_shares().imbalance_before()), ImbalanceText(group.shadow_shares().imbalance_after()),
        TimeText(group.shadow_shares().time_unix_us()));
  }
  for (const v1::StandingPins& pins : group.pins()) {
    if (pins.frozen_layers().empty()) continue;
    context.out << pins.frozen_layers_size() << " layers are frozen by " << pins.operation() << "\n";
  }
  if (!group.paused_by().empty()) {
    context.out << "paused by an operator" << (group.pause_reason().empty() ? "" : ": ") << group.pause_reason()
                << "; 'keelctl resume' ends it\n";
  }
  if (!group.held().empty()) context.out << group.held() << "\n";
  if (group.has_guard()) {
    context.out << absl::StrFormat(
        "guard: moves are %s; step times %.2f ms in the median, %.2f ms at the 99th percentile\n", group.guard().pace(),
        static_cast<double>(group.guard().step_time_p50_us()) * 1e-3,
        static_cast<double>(group.guard().step_time_p99_us()) * 1e-3);
  }
  for (const std::string& why : group.ineffective()) context.out << "has no effect: " << why << "\n";
  if (!group.running_operation().empty()) context.out << "under way: " << group.running_operation() << "\n";
}

void ShowOperation(const Context& context, const v1::Operation& o) {
  context.out << absl::StrFormat(
      "%s at %s, by %s, %s: %s\nasked for by %s%s\nimbalance %s before, %s predicted; planned for %s, waited for ranks "
      "%s, moved for %s\n",
      o.id(), TimeText(o.started_unix_us()), CauseText(o.cause()), StateText(o.state()), o.detail(), AskerText(o),
      o.request().empty() ? "" : absl::StrCat(" (", o.request(), ")"), ImbalanceText(o.imbalance_before()),
      ImbalanceText(o.imbalance_predicted()), Seconds(o.planning_us()), Seconds(o.retiring_us()),
      Seconds(o.moving_us()));
  std::map<std::string, int> counts;
  for (const v1::LayerDecision& decision : o.decisions()) ++counts[decision.reason()];
  for (const auto& [reason, count] : counts) context.out << absl::StrFormat("%5d layers: %s\n", count, reason);
  if (context.arguments.Has("layers")) context.out << "\n" << DecisionsText(o);
}

absl::StatusOr<int> Run(const Context& context) {
  v1::GetGroupRequest group_request;
  group_request.set_group(context.arguments.Get("group"));
  v1::Group group;
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(
      context.client->stub().GetGroup(context.client->Call().get(), group_request, &group), "get group"));
  v1::ListOperationsRequest request;
  request.set_group(group.info().name());
  request.set_id(context.arguments.Get("id"));
  request.set_decisions(true);
  v1::ListOperationsResponse response;
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(
      context.client->stub().ListOperations(context.client->Call().get(), request, &response), "list operations"));
  const v1::Operation* last = nullptr;
  for (const v1::Operation& operation : response.operations()) {
    const bool decided = !operation.decisions().empty() || IsFinal(operation.state());
    if (request.id().empty() && (Stands(operation.cause()) || !decided)) continue;
    last = &operation;
    break;
  }
  if (last == nullptr && !request.id().empty()) {
    return absl::NotFoundError(absl::StrCat("unknown operation ", request.id()));
  }
  if (context.json) {
    context.out << ToJson(last == nullptr ? v1::Operation() : *last) << "\n";
    return kDone;
  }
  ShowState(context, group);
  if (last == nullptr) {
    context.out << "nothing was decided yet\n";
  } else {
    ShowOperation(context, *last);
  }
  return kDone;
}

}  // namespace

const Command kExplainCommand = {
    "explain", "why the last decision, and why nothing else",
    "What the controller decided last about a group, by which figures, how long each part of it took, and what keeps\n"
    "it from doing anything at all. --json prints evenkeel.v1.Operation with its decisions.",
    kOptions, Run};

}  // namespace evenkeel::cli
