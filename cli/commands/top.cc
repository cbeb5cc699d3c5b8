// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "algos/base/status_macros.h"
#include "cli/command.h"
#include "cli/commands/operation_text.h"
#include "cli/table.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr Option kOptions[] = {
    {"group", "G", "only this one (default: all)"},
    {"interval-ms", "MS", "between two pictures, 50 to 3600000 (default 1000)"},
    {"once", "", "one picture, then end"},
};
constexpr int kBarWidth = 40;
constexpr size_t kRanksShown = 24;  // of a group, the busiest

// A group as it was told last, and its operation under way.
struct Seen {
  v1::StatsUpdate update;
  std::optional<v1::Operation> operation;
};
using Groups = std::map<std::string, Seen>;

std::string StateOf(const v1::Group& group) {
  if (group.forming()) return "forming";
  if (!group.paused_by().empty()) return "paused";
  if (!group.static_reason().empty()) return "static";
  return group.running_operation().empty() ? "steady" : "rearranging";
}

double TokensPerSecond(const v1::GroupStats& stats) {
  const double seconds = static_cast<double>(stats.end_unix_us() - stats.begin_unix_us()) * 1e-6;
  return seconds > 0 ? static_cast<double>(stats.tokens()) / seconds : 0;
}

std::string OperationLine(const v1::Operation& o) {
  return absl::StrFormat("%s  [%s] %s, layers %d/%d, moves %d/%d, %s  %s", o.id(),
                         Bar(o.num_moves_done(), o.num_moves(), kBarWidth / 2), StateText(o.state()),
                         o.num_layers_done(), o.num_layers(), o.num_moves_done(), o.num_moves(),
                         BytesText(o.bytes_done()), o.detail());
}

// Summed over layers, busiest first.
std::vector<std::pair<uint64_t, int>> LoadOfRanks(const v1::GroupStats& stats) {
  std::vector<std::pair<uint64_t, int>> ranks;
  for (const v1::LayerStats& layer : stats.layers()) {
    for (int r = 0; r < layer.tokens_of_rank_size(); ++r) {
      if (static_cast<size_t>(r) == ranks.size()) ranks.emplace_back(0, r);
      ranks[static_cast<size_t>(r)].first += layer.tokens_of_rank(r);
    }
  }
  std::ranges::sort(ranks, [](const auto& a, const auto& b) {
    return a.first > b.first || (a.first == b.first && a.second < b.second);
  });
  return ranks;
}

std::string RankLines(const v1::GroupStats& stats) {
  const std::vector<std::pair<uint64_t, int>> ranks = LoadOfRanks(stats);
  const uint64_t total = std::accumulate(ranks.begin(), ranks.end(), uint64_t{0},
                                         [](uint64_t sum, const auto& rank) { return sum + rank.first; });
  if (total == 0) return "  nothing was counted in the last window\n";
  const double mean = static_cast<double>(total) / static_cast<double>(ranks.size());
  std::string text;
  for (size_t i = 0; i < std::min(ranks.size(), kRanksShown); ++i) {
    const double of_mean = static_cast<double>(ranks[i].first) / mean;
    absl::StrAppendFormat(&text, "  rank %4d  x%.3f  %s\n", ranks[i].second, of_mean, Bar(of_mean, 2, kBarWidth));
  }
  if (ranks.size() > kRanksShown) {
    absl::StrAppendFormat(&text, "  and %d ranks down to x%.3f\n", ranks.size() - kRanksShown,
                          static_cast<double>(ranks.back().first) / mean);
  }
  return text;
}

std::string Picture(const Context& context, const Groups& groups) {
  std::string text = absl::StrCat("controller ", context.client->address(), ", ",
                                  absl::FormatTime("%H:%M:%S", absl::Now(), absl::LocalTimeZone()), "\n\n");
  Table table({"GROUP", "MODE", "STATE", ">EPOCH", ">NOW", ">WITHOUT", ">PREDICTED", ">TOKENS/S", ">MOVES"});
  for (const auto& [name, seen] : groups) {
    const v1::Group& group = seen.update.group();
    const v1::GroupStats& stats = seen.update.stats();
    table.AddRow({name, group.mode(), StateOf(group), absl::StrCat(group.epoch().term(), ".", group.epoch().number()),
                  ImbalanceText(stats.imbalance_realised()), ImbalanceText(stats.imbalance_initial()),
                  ImbalanceText(group.imbalance_predicted()), CountText(static_cast<uint64_t>(TokensPerSecond(stats))),
                  CountText(group.totals().moves())});
  }
  absl::StrAppend(&text, groups.empty() ? "no group has attached yet\n" : table.ToString());
  for (const auto& [name, seen] : groups) {
    absl::StrAppend(&text, "\n", name, ", ranks by load, of the mean\n", RankLines(seen.update.stats()));
    if (seen.operation.has_value()) absl::StrAppend(&text, "  ", OperationLine(*seen.operation), "\n");
    for (const v1::Alert& alert : seen.update.group().alerts()) {
      if (alert.ended_unix_us() == 0) absl::StrAppend(&text, "  ", AlertText(alert), "\n");
    }
  }
  return text;
}

// For what is no terminal.
std::string Line(const Seen& seen) {
  const v1::Group& group = seen.update.group();
  const v1::GroupStats& stats = seen.update.stats();
  return absl::StrFormat("%s  %s  mode %s  %s  epoch %d.%d  imbalance %s (without %s, predicted %s)  %s tokens/s  %s\n",
                         TimeText(seen.update.time_unix_us()), group.info().name(), group.mode(), StateOf(group),
                         group.epoch().term(), group.epoch().number(), ImbalanceText(stats.imbalance_realised()),
                         ImbalanceText(stats.imbalance_initial()), ImbalanceText(group.imbalance_predicted()),
                         CountText(static_cast<uint64_t>(TokensPerSecond(stats))),
                         seen.operation.has_value() ? OperationLine(*seen.operation) : "nothing under way");
}

absl::Status FindOperation(const Context& context, Seen& seen) {
  seen.operation.reset();
  if (seen.update.group().running_operation().empty()) return absl::OkStatus();
  v1::ListOperationsRequest request;
  request.set_id(seen.update.group().running_operation());
  v1::ListOperationsResponse response;
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(
      context.client->stub().ListOperations(context.client->Call().get(), request, &response), "list operations"));
  if (!response.operations().empty()) seen.operation = response.operations(0);
  return absl::OkStatus();
}

void Show(const Context& context, const Groups& groups, const Seen& newest) {
  if (context.json) {
    context.out << ToJson(newest.update) << std::endl;
  } else if (context.terminal) {
    context.out << "\033[H\033[2J" << Picture(context, groups) << std::flush;
  } else {
    context.out << Line(newest) << std::flush;
  }
}

absl::StatusOr<Groups> LookOnce(const Context& context) {
  v1::ListGroupsResponse response;
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(
      context.client->stub().ListGroups(context.client->Call().get(), v1::ListGroupsRequest(), &response),
      "list groups"));
  Groups groups;
  const std::string wanted = context.arguments.Get("group");
  for (const v1::Group& group : response.groups()) {
    const std::string& name = group.info().name();
    if (!wanted.empty() && name != wanted) continue;
    Seen& seen = groups[name];
    seen.update.set_time_unix_us(absl::ToUnixMicros(absl::Now()));
    *seen.update.mutable_group() = group;
    v1::GetStatsRequest request;
    request.set_group(name);
    request.set_num_windows(1);
    EVENKEEL_RETURN_IF_ERROR(context.client->Explain(
        context.client->stub().GetStats(context.client->Call().get(), request, seen.update.mutable_stats()),
        "get stats"));
    EVENKEEL_RETURN_IF_ERROR(FindOperation(context, seen));
  }
  if (groups.empty() && !wanted.empty()) return absl::NotFoundError(absl::StrCat("no group ", wanted));
  return groups;
}

absl::StatusOr<int> Run(const Context& context) {
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t interval_ms,
                            context.arguments.GetInteger("interval-ms", 1000, 50, 3'600'000));
  if (context.arguments.Has("once")) {
    EVENKEEL_ASSIGN_OR_RETURN(const Groups groups, LookOnce(context));
    for (const auto& [name, seen] : groups) {
      if (context.json) context.out << ToJson(seen.update) << "\n";
    }
    if (!context.json) context.out << Picture(context, groups);
    return kDone;
  }
  v1::WatchStatsRequest request;
  request.set_group(context.arguments.Get("group"));
  request.set_interval_ms(static_cast<uint32_t>(interval_ms));
  const auto call = context.client->Watch();
  const auto reader = context.client->stub().WatchStats(call.get(), request);
  Groups groups;
  v1::StatsUpdate update;
  while (reader->Read(&update)) {
    Seen& seen = groups[update.group().info().name()];
    seen.update = update;
    EVENKEEL_RETURN_IF_ERROR(FindOperation(context, seen));
    Show(context, groups, seen);
  }
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(reader->Finish(), "watch stats"));
  return kDone;
}

}  // namespace

const Command kTopCommand = {
    "top", "all groups, live",
    "Each group's mode and imbalance: NOW as counted in the last window, WITHOUT what the same tokens would have cost\n"
    "under the default placement, PREDICTED what the shares in force promised; its ranks by load, the operation under\n"
    "way, and alerts that last. Redraws a terminal; prints a line for each update where there is none.\n"
    "--json prints one evenkeel.v1.StatsUpdate per line.",
    kOptions, Run};

}  // namespace evenkeel::cli
