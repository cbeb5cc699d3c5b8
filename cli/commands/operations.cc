// SPDX-License-Identifier: Apache-2.0
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
    {"group", "G", "only this group's"},
    {"last", "N", "the newest N (default 20)"},
    {"id", "ID", "only this one"},
    {"decisions", "", "with what was decided about each layer, and why"},
    {"watch", "", "go on until interrupted, one line per change"},
};

void ShowLine(const Context& context, const v1::Operation& operation) {
  if (context.json) {
    context.out << ToJson(operation) << std::endl;
    return;
  }
  context.out << absl::StrFormat("%s  %s  %s  %s  %s  %d/%d moves  %s", TimeText(operation.changed_unix_us()),
                                 operation.id(), operation.group(), CauseText(operation.cause()),
                                 StateText(operation.state()), operation.num_moves_done(), operation.num_moves(),
                                 operation.detail())
              << std::endl;
}

absl::StatusOr<int> Watch(const Context& context) {
  v1::WatchOperationsRequest request;
  request.set_group(context.arguments.Get("group"));
  const auto call = context.client->Watch();
  const auto reader = context.client->stub().WatchOperations(call.get(), request);
  v1::Operation operation;
  while (reader->Read(&operation)) ShowLine(context, operation);
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(reader->Finish(), "watch operations"));
  return kDone;
}

absl::StatusOr<int> Run(const Context& context) {
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t last, context.arguments.GetInteger("last", 20, 1, 1'000'000));
  if (context.arguments.Has("watch")) return Watch(context);
  v1::ListOperationsRequest request;
  request.set_group(context.arguments.Get("group"));
  request.set_id(context.arguments.Get("id"));
  request.set_decisions(context.arguments.Has("decisions"));
  v1::ListOperationsResponse response;
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(
      context.client->stub().ListOperations(context.client->Call().get(), request, &response), "list operations"));
  if (!request.id().empty() && response.operations().empty()) {
    return absl::NotFoundError(absl::StrCat("unknown operation ", request.id()));
  }
  auto* operations = response.mutable_operations();
  if (operations->size() > last) {
    operations->DeleteSubrange(static_cast<int>(last), operations->size() - static_cast<int>(last));
  }
  if (context.json) {
    context.out << ToJson(response) << "\n";
    return kDone;
  }
  if (request.decisions()) {
    for (const v1::Operation& o : *operations) {
      ShowLine(context, o);
      context.out << DecisionsText(o);
    }
    if (operations->empty()) context.out << "no operation yet\n";
    return kDone;
  }
  Table table({"STARTED", "ID", "GROUP", "CAUSE", "STATE", ">LAYERS", ">WAVES", ">MOVES", ">FAILED", ">BYTES",
               ">SECONDS", ">BEFORE", ">PREDICTED", "ASKED BY", "DETAIL"});
  for (const v1::Operation& o : *operations) {
    table.AddRow({TimeText(o.started_unix_us()), o.id(), o.group(), CauseText(o.cause()), StateText(o.state()),
                  absl::StrCat(o.num_layers_done(), "/", o.num_layers()), absl::StrCat(o.num_waves()),
                  absl::StrCat(o.num_moves_done(), "/", o.num_moves()), absl::StrCat(o.num_moves_failed()),
                  BytesText(o.bytes_done()),
                  absl::StrFormat("%.1f", static_cast<double>(o.changed_unix_us() - o.started_unix_us()) * 1e-6),
                  ImbalanceText(o.imbalance_before()), ImbalanceText(o.imbalance_predicted()),
                  o.request().empty() ? AskerText(o) : absl::StrCat(AskerText(o), ", ", o.request()),
                  o.ended_by().empty() ? o.detail() : absl::StrCat(o.detail(), "; ended by ", o.ended_by())});
  }
  context.out << (operations->empty() ? "no operation yet\n" : table.ToString());
  return kDone;
}

}  // namespace

const Command kOperationsCommand = {
    "operations", "what was done, what not, and why",
    "Newest first. An operation is a rearrangement asked for by an operator or found worthwhile by the slow loop;\n"
    "one that was decided against is 'skipped', with its reason. --decisions tells of each of its layers: whether it\n"
    "is rearranged and why, imbalance before and after, moves, and the gain that was weighed against the price, both\n"
    "in tokens of the busiest rank. They are kept for the newest operations.\n"
    "ASKED BY is the name that the caller gave itself, which nobody has checked, its address, and the call.\n"
    "--json prints evenkeel.v1.ListOperationsResponse; with --watch one evenkeel.v1.Operation per line.",
    kOptions, Run};

}  // namespace evenkeel::cli
