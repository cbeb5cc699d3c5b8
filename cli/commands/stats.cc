// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "algos/base/status_macros.h"
#include "algos/problem.h"
#include "cli/command.h"
#include "cli/files/file.h"
#include "cli/files/loads.h"
#include "cli/table.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr int kBarWidth = 40;
constexpr Option kOptions[] = {
    {"group", "G", "which group; may be left out where there is one"},
    {"windows", "N", "the last N windows (default 10; with --watch 1)"},
    {"experts", "", "also the busiest experts of each layer"},
    {"out", "FILE", "write the tokens per expert to a file for 'keelctl plan --loads', instead of showing them"},
    {"watch", "", "go on until interrupted, one update per interval"},
    {"interval-ms", "MS", "of --watch; 50 to 3600000 (default 1000)"},
};

// Tokens per rank, over all layers.
std::vector<uint64_t> RankTokens(const v1::GroupStats& stats) {
  std::vector<uint64_t> tokens;
  for (const v1::LayerStats& layer : stats.layers()) {
    tokens.resize(std::max(tokens.size(), static_cast<size_t>(layer.tokens_of_rank_size())));
    for (int r = 0; r < layer.tokens_of_rank_size(); ++r) tokens[static_cast<size_t>(r)] += layer.tokens_of_rank(r);
  }
  return tokens;
}

std::string RankBars(const v1::GroupStats& stats) {
  const std::vector<uint64_t> tokens = RankTokens(stats);
  const double total = std::accumulate(tokens.begin(), tokens.end(), 0.0);
  const double mean = tokens.empty() ? 0 : total / static_cast<double>(tokens.size());
  Table table({">RANK", ">TOKENS", ">OF MEAN", "LOAD"});
  for (size_t r = 0; r < tokens.size(); ++r) {
    const double load = static_cast<double>(tokens[r]);
    table.AddRow({absl::StrCat(r), CountText(tokens[r]), mean > 0 ? absl::StrFormat("%.2f", load / mean) : "-",
                  Bar(load, 2 * mean, kBarWidth)});
  }
  return table.ToString();
}

std::string LayerTable(const v1::GroupStats& stats, bool experts) {
  std::vector<std::string> header = {">LAYER", ">TOKENS", ">IMBALANCE", ">PREDICTED", ">INITIAL"};
  if (experts) header.push_back("BUSIEST EXPERTS (id x mean)");
  Table table(header);
  for (const v1::LayerStats& layer : stats.layers()) {
    const auto& tokens = layer.tokens_of_expert();
    const uint64_t total = std::accumulate(tokens.begin(), tokens.end(), uint64_t{0});
    std::vector<std::string> row = {
        absl::StrCat(layer.layer()), CountText(total), ImbalanceText(layer.imbalance_realised()),
        ImbalanceText(layer.imbalance_predicted()), ImbalanceText(layer.imbalance_initial())};
    if (experts) {
      std::vector<int> order(static_cast<size_t>(tokens.size()));
      std::iota(order.begin(), order.end(), 0);
      std::ranges::stable_sort(order, [&](int a, int b) { return tokens[a] > tokens[b]; });
      std::string busiest;
      for (size_t i = 0; i < std::min<size_t>(order.size(), 6) && total > 0; ++i) {
        const double of_mean = static_cast<double>(tokens[order[i]]) * tokens.size() / static_cast<double>(total);
        absl::StrAppendFormat(&busiest, "%s%d x%.1f", i == 0 ? "" : "  ", order[i], of_mean);
      }
      row.push_back(busiest);
    }
    table.AddRow(row);
  }
  return table.ToString();
}

std::string Headline(const v1::GroupStats& stats) {
  return absl::StrFormat("%s: %s tokens in %.1f s, imbalance %s (predicted %s, initial %s)\n", stats.group(),
                         CountText(stats.tokens()),
                         static_cast<double>(stats.end_unix_us() - stats.begin_unix_us()) * 1e-6,
                         ImbalanceText(stats.imbalance_realised()), ImbalanceText(stats.imbalance_predicted()),
                         ImbalanceText(stats.imbalance_initial()));
}

// Rewrites the screen on a terminal, else one line per update.
void ShowUpdate(const Context& context, const v1::StatsUpdate& update) {
  if (context.json) {
    context.out << ToJson(update) << std::endl;
    return;
  }
  const v1::Group& group = update.group();
  if (context.terminal) context.out << "\033[H\033[2J";
  context.out << absl::StrFormat(
      "%s  epoch %d.%d  imbalance %s (initial %s)  %s tokens  %d shares updates  %d moves  %s  %s\n",
      group.info().name(), group.epoch().term(), group.epoch().number(),
      ImbalanceText(update.stats().imbalance_realised()), ImbalanceText(update.stats().imbalance_initial()),
      CountText(update.stats().tokens()), group.totals().shares_updates(), group.totals().moves(),
      BytesText(group.totals().bytes_moved()), group.running_operation());
  if (context.terminal) context.out << RankBars(update.stats());
  context.out << std::flush;
}

absl::StatusOr<int> Watch(const Context& context, int64_t num_windows) {
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t interval_ms,
                            context.arguments.GetInteger("interval-ms", 1000, 50, 3'600'000));
  v1::WatchStatsRequest request;
  request.set_group(context.arguments.Get("group"));
  request.set_interval_ms(static_cast<uint32_t>(interval_ms));
  request.set_num_windows(static_cast<uint32_t>(num_windows));
  const auto call = context.client->Watch();
  const auto reader = context.client->stub().WatchStats(call.get(), request);
  v1::StatsUpdate update;
  while (reader->Read(&update)) ShowUpdate(context, update);
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(reader->Finish(), "watch stats"));
  return kDone;
}

// One window: the sum of those asked for.
absl::StatusOr<int> Write(const Context& context, const v1::GroupStats& stats) {
  algos::Load load{.num_layers = stats.layers_size()};
  for (const v1::LayerStats& layer : stats.layers()) {
    load.num_experts = layer.tokens_of_expert_size();
    load.tokens.insert(load.tokens.end(), layer.tokens_of_expert().begin(), layer.tokens_of_expert().end());
  }
  if (std::ranges::all_of(load.tokens, [](uint64_t tokens) { return tokens == 0; })) {
    return absl::FailedPreconditionError("there are no tokens to write: the group counted none in these windows");
  }
  const std::string path = context.arguments.Get("out");
  EVENKEEL_RETURN_IF_ERROR(WriteFile(path, RenderLogicalCount({load})));
  context.err << "written to " << path << "\n";
  return kDone;
}

absl::StatusOr<int> Run(const Context& context) {
  const bool watch = context.arguments.Has("watch");
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t num_windows,
                            context.arguments.GetInteger("windows", watch ? 1 : 10, 1, 100'000));
  if (watch && context.arguments.Has("out")) return absl::InvalidArgumentError("--watch and --out do not go together");
  if (watch) return Watch(context, num_windows);
  v1::GetStatsRequest request;
  request.set_group(context.arguments.Get("group"));
  request.set_num_windows(static_cast<uint32_t>(num_windows));
  v1::GroupStats stats;
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(
      context.client->stub().GetStats(context.client->Call().get(), request, &stats), "get stats"));
  if (context.arguments.Has("out")) return Write(context, stats);
  if (context.json) {
    context.out << ToJson(stats) << "\n";
  } else {
    context.out << Headline(stats) << "\n"
                << RankBars(stats) << "\n"
                << LayerTable(stats, context.arguments.Has("experts"));
  }
  return kDone;
}

}  // namespace

const Command kStatsCommand = {
    "stats", "load and imbalance, now or live",
    "Tokens per rank and per layer over the last windows (a window is a second unless configured otherwise), as\n"
    "counted. IMBALANCE is the load of the busiest rank over the mean rank, PREDICTED what the shares in force\n"
    "promised when they were chosen, INITIAL what the same tokens would have cost under the default placement.\n"
    "--json prints evenkeel.v1.GroupStats; with --watch one evenkeel.v1.StatsUpdate per line.",
    kOptions, Run};

}  // namespace evenkeel::cli
