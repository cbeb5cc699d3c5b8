// SPDX-License-Identifier: Apache-2.0
#include "algos/base/status_macros.h"
#include "cli/command.h"
#include "cli/commands/operation_text.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr Option kGroupOption = {"group", "G", "which group; may be left out where there is one"};
constexpr Option kPauseOptions[] = {kGroupOption, {"reason", "TEXT", "why, for those who look at it later"}};
constexpr Option kResumeOptions[] = {kGroupOption};

int Show(const Context& context, const v1::Operation& operation) {
  if (context.json) {
    context.out << ToJson(operation) << "\n";
  } else {
    context.out << "group " << operation.group()
                << (IsFinal(operation.state()) ? " is balanced by the controller again"
                                               : " is paused; 'keelctl resume' ends it")
                << " (operation " << operation.id() << ")\n";
  }
  return kDone;
}

absl::StatusOr<int> RunPause(const Context& context) {
  v1::PauseRequest request;
  request.set_group(context.arguments.Get("group"));
  request.set_reason(context.arguments.Get("reason"));
  v1::Operation operation;
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(
      context.client->stub().Pause(context.client->Call().get(), request, &operation), "pause"));
  return Show(context, operation);
}

absl::StatusOr<int> RunResume(const Context& context) {
  v1::ResumeRequest request;
  request.set_group(context.arguments.Get("group"));
  v1::Operation operation;
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(
      context.client->stub().Resume(context.client->Call().get(), request, &operation), "resume"));
  return Show(context, operation);
}

}  // namespace

const Command kPauseCommand = {
    "pause", "have the controller do nothing by itself with a group",
    "Load is counted, but no placement is planned and no shares are changed until 'keelctl resume'; the controller's\n"
    "end does not end it. What is under way goes on; what you ask for, and ranks that come, go or are lost, are seen\n"
    "to as ever. --json prints evenkeel.v1.Operation.",
    kPauseOptions, RunPause};

const Command kResumeCommand = {"resume", "end a pause",
                                "The controller plans and shares by itself again. --json prints evenkeel.v1.Operation.",
                                kResumeOptions, RunResume};

}  // namespace evenkeel::cli
