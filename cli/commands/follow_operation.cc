// SPDX-License-Identifier: Apache-2.0
#include "cli/commands/follow_operation.h"

#include <string>

#include "absl/strings/str_format.h"

#include "algos/base/status_macros.h"
#include "cli/commands/operation_text.h"
#include "cli/table.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr int kBarWidth = 30;

std::string ProgressText(const v1::Operation& o) {
  // Of ranks, the sentence tells what they wait for; of layers, the numbers do.
  return absl::StrFormat("[%s] %s  layers %d/%d  waves %d  moves %d/%d  %s%s",
                         Bar(o.num_moves_done(), o.num_moves(), kBarWidth), StateText(o.state()), o.num_layers_done(),
                         o.num_layers(), o.num_waves(), o.num_moves_done(), o.num_moves(), BytesText(o.bytes_done()),
                         o.ranks().empty() || IsFinal(o.state()) ? "" : "  " + o.detail());
}

void ShowProgress(const Context& context, const v1::Operation& operation) {
  if (context.json) return;
  if (context.terminal) {
    context.err << "\r\033[2K" << ProgressText(operation) << (IsFinal(operation.state()) ? "\n" : "") << std::flush;
  } else {
    context.err << ProgressText(operation) << std::endl;
  }
}

}  // namespace

absl::StatusOr<v1::Operation> FollowOperation(const Context& context, grpc::ClientReader<v1::Operation>& reader,
                                              absl::string_view what) {
  v1::Operation operation;
  while (reader.Read(&operation)) ShowProgress(context, operation);
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(reader.Finish(), what));
  return operation;
}

}  // namespace evenkeel::cli
