// SPDX-License-Identifier: Apache-2.0
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "algos/problem.h"
#include "cli/command.h"
#include "cli/files/file.h"
#include "cli/files/loads.h"
#include "cli/files/npy.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr Option kOptions[] = {
    {"group", "G", "which group; may be left out where there is one"},
    {"windows", "N", "how many to record (default 60)"},
};
constexpr Operand kOperands[] = {{"FILE", "the .npy file to write"}};

algos::Load LoadOf(const v1::GroupStats& stats) {
  algos::Load load{.num_layers = stats.layers_size(), .num_experts = 0};
  for (const v1::LayerStats& layer : stats.layers()) {
    load.num_experts = layer.tokens_of_expert_size();
    load.tokens.insert(load.tokens.end(), layer.tokens_of_expert().begin(), layer.tokens_of_expert().end());
  }
  return load;
}

absl::StatusOr<int> Run(const Context& context) {
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t wanted, context.arguments.GetInteger("windows", 60, 1, 100'000));
  EVENKEEL_RETURN_IF_ERROR(CheckOutputs({{"FILE", context.arguments.Get("FILE")}}));
  v1::GetGroupRequest group_request;
  group_request.set_group(context.arguments.Get("group"));
  v1::Group group;
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(
      context.client->stub().GetGroup(context.client->Call().get(), group_request, &group), "get group"));
  v1::WatchStatsRequest request;
  request.set_group(group.info().name());
  const auto call = context.client->Watch();
  const auto reader = context.client->stub().WatchStats(call.get(), request);
  std::vector<algos::Load> windows;
  int64_t newest = 0;
  v1::StatsUpdate update;
  while (std::ssize(windows) < wanted && reader->Read(&update)) {
    const v1::GroupStats& stats = update.stats();
    // The same window may be told twice; one without load is none to plan by.
    if (stats.windows_size() == 0 || stats.windows(0).begin_unix_us() <= newest || stats.tokens() == 0) continue;
    newest = stats.windows(0).begin_unix_us();
    windows.push_back(LoadOf(stats));
    if (context.err_terminal) context.err << "\r" << windows.size() << " of " << wanted << " windows" << std::flush;
  }
  if (context.err_terminal) context.err << "\n";
  call->TryCancel();
  const grpc::Status ended = reader->Finish();
  if (windows.empty()) {
    EVENKEEL_RETURN_IF_ERROR(context.client->Explain(ended, "watch stats"));
    return absl::UnavailableError("no window had any load");
  }
  const std::string path = context.arguments.Get("FILE");
  EVENKEEL_RETURN_IF_ERROR(WriteFile(path, RenderNpy(ArrayOf(windows))));
  context.out << windows.size() << " windows of " << windows[0].num_layers << " layers x " << windows[0].num_experts
              << " experts written to " << path << "\n";
  return std::ssize(windows) == wanted ? kDone : kProblem;
}

}  // namespace

const Command kRecordCommand = {
    "record",
    "write a group's load into a file, window by window",
    "Follows the group until so many windows with load have ended, and writes them as [windows, layers, experts], as\n"
    "'keelctl plan', 'simulate' and 'show' read them. Exit status 1 if the controller ended before.",
    kOptions,
    Run,
    kOperands};

}  // namespace evenkeel::cli
