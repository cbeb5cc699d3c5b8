// SPDX-License-Identifier: Apache-2.0
#include "algos/base/status_macros.h"
#include "cli/command.h"
#include "cli/commands/operation_text.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr Operand kOperands[] = {{"MODE", "off, record, shadow, shares or full"}};
constexpr Option kOptions[] = {
    {"group", "G", "which group; may be left out where there is one"},
    {"reason", "TEXT", "why, for those who look at it later"},
    {"request-id", "ID", "asking twice with one id sets it once"},
};

absl::StatusOr<int> Run(const Context& context) {
  v1::SetModeRequest request;
  request.set_group(context.arguments.Get("group"));
  request.set_mode(context.arguments.Get("MODE"));
  request.set_reason(context.arguments.Get("reason"));
  request.set_request_id(context.arguments.Get("request-id"));
  v1::Operation operation;
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(
      context.client->stub().SetMode(context.client->Call().get(), request, &operation), "set mode"));
  if (context.json) {
    context.out << ToJson(operation) << "\n";
  } else {
    context.out << "group " << operation.group() << ": mode " << operation.mode()
                << (IsFinal(operation.state()) ? ", as configured" : ", until another is set") << " (operation "
                << operation.id() << ")\n";
  }
  return kDone;
}

}  // namespace

const Command kModeCommand = {
    "mode",
    "how much the controller does by itself with a group",
    "off     nothing is decided, and no load kept\n"
    "record  load is kept\n"
    "shadow  decisions are taken and recorded, with what they would gain; none is carried out\n"
    "shares  new shares alone, no moves\n"
    "full    all of it\n"
    "What you ask for, and ranks that come, go or are lost, are seen to in every mode. The controller's end does not "
    "end\n"
    "it; 'keelctl groups' shows it, 'keelctl explain' what shadow would have done. --json prints "
    "evenkeel.v1.Operation.",
    kOptions,
    Run,
    kOperands};

}  // namespace evenkeel::cli
