// SPDX-License-Identifier: Apache-2.0
#include "algos/base/status_macros.h"
#include "cli/command.h"
#include "cli/commands/operation_text.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr Operand kOperands[] = {{"ID", "the operation, as 'keelctl operations' names it"}};

absl::StatusOr<int> Run(const Context& context) {
  v1::CancelOperationRequest request;
  request.set_id(context.arguments.Get("ID"));
  v1::Operation operation;
  EVENKEEL_RETURN_IF_ERROR(
      context.client->Explain(context.client->stub().CancelOperation(context.client->Call().get(), request, &operation),
                              "cancel operation " + request.id()));
  if (context.json) {
    context.out << ToJson(operation) << "\n";
  } else {
    context.out << "operation " << operation.id() << " is " << StateText(operation.state()) << ": "
                << operation.detail() << "\n";
  }
  return kDone;
}

}  // namespace

const Command kCancelCommand = {"operations cancel",
                                "end an operation",
                                "At once while it is planned, else as soon as the waves at hand have ended, at the "
                                "latest at their deadline; what was\n"
                                "moved by then stays. 'keelctl operations --watch' shows when it has ended.\n"
                                "--json prints evenkeel.v1.Operation as it then is.",
                                {},
                                Run,
                                kOperands};

}  // namespace evenkeel::cli
