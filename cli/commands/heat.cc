// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "algos/base/status_macros.h"
#include "cli/command.h"
#include "cli/heat_map.h"
#include "cli/table.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr Option kOptions[] = {
    {"group", "G", "which group; may be left out where there is one"},
    {"windows", "N", "over the last N windows (default 10)"},
    {"ranks", "", "of ranks instead of experts"},
    {"layers", "L", "only these, for example 0,3-5 (default: all)"},
    {"width", "N", "characters of a line (default 120)"},
};

std::vector<HeatRow> RowsOf(const v1::GroupStats& stats, const std::vector<uint32_t>& layers, bool of_ranks) {
  std::vector<HeatRow> rows;
  for (const v1::LayerStats& layer : stats.layers()) {
    if (!layers.empty() && !std::ranges::binary_search(layers, layer.layer())) continue;
    const auto& tokens = of_ranks ? layer.tokens_of_rank() : layer.tokens_of_expert();
    rows.push_back({absl::StrCat(layer.layer()), std::vector<double>(tokens.begin(), tokens.end()),
                    ImbalanceText(layer.imbalance_realised())});
  }
  return rows;
}

absl::StatusOr<int> Run(const Context& context) {
  v1::GetStatsRequest request;
  request.set_group(context.arguments.Get("group"));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t num_windows, context.arguments.GetInteger("windows", 10, 1, 100'000));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t width, context.arguments.GetInteger("width", 120, 20, 10'000));
  EVENKEEL_ASSIGN_OR_RETURN(const auto layers, context.arguments.GetRanges("layers", 4095));
  request.set_num_windows(static_cast<uint32_t>(num_windows));
  v1::GroupStats stats;
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(
      context.client->stub().GetStats(context.client->Call().get(), request, &stats), "get stats"));
  for (uint32_t layer : layers) {
    if (static_cast<int>(layer) < stats.layers_size()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--layers: layer ", layer, ": the group's layers are 0 to ", stats.layers_size() - 1));
  }
  if (context.json) {
    context.out << ToJson(stats) << "\n";
    return kDone;
  }
  const bool of_ranks = context.arguments.Has("ranks");
  const std::vector<HeatRow> rows = RowsOf(stats, layers, of_ranks);
  if (rows.empty()) {
    context.out << "no load was counted yet\n";
    return kDone;
  }
  const HeatMap map = RenderHeatMap(rows, {.width = static_cast<int>(width), .colour = context.terminal});
  context.out << map.text
              << absl::StrFormat(
                     "a row is a layer, with its imbalance; a cell the highest of %d %s; 0 |%s| %.0f tokens\n",
                     map.values_per_cell, of_ranks ? "ranks" : "experts", map.legend, map.largest);
  return kDone;
}

}  // namespace

const Command kHeatCommand = {"heat", "tokens per expert or rank and layer, as shades",
                              "One line a layer: the darker, the more tokens over the last windows.\n"
                              "--json prints evenkeel.v1.GroupStats.",
                              kOptions, Run};

}  // namespace evenkeel::cli
