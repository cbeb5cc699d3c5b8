// SPDX-License-Identifier: Apache-2.0
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "algos/base/ids.h"
#include "algos/base/status_macros.h"
#include "algos/imbalance.h"
#include "algos/placement.h"
#include "algos/problem.h"
#include "cli/command.h"
#include "cli/files/file.h"
#include "cli/files/limits.h"
#include "cli/files/loads.h"
#include "cli/files/map_formats.h"
#include "cli/heat_map.h"
#include "cli/plan_report.h"
#include "cli/problem_options.h"

namespace evenkeel::cli {

namespace {

constexpr Operand kOperands[] = {{"FILE", "loads or a map, in any form that 'plan' and 'convert' know"}};
constexpr Option kOptions[] = {
    {"window", "A:B", "of loads: the sum of windows A to B-1 alone"},
    {"loads", "FILE", "of a map: shows the load that its ranks would get"},
    {"ranks", "R",
     "of loads: shows the load of R ranks under the initial placement; of maps that do not say it: how many"},
    {"slots-per-rank", "S", "with --ranks, of loads (default: as many as the experts need)"},
    {"layers", "L", "these layers alone, for example 0,3-5"},
    {"first-layer", "N", "rows of dense layers that an sglang map begins with (default 0)"},
    {"width", "W", "characters of a line (default: the terminal's, else 100)"},
};

// What is shown: a number for every expert or rank of every layer.
struct Picture {
  std::string title = {};
  std::string cell;                              // "expert", "rank"
  std::string unit;                              // of `values`: "tokens", "replicas"
  bool relative = true;                          // cells and notes are over the row's mean
  std::vector<std::vector<double>> values = {};  // by layer
};

absl::StatusOr<int> SmallFrom(const Arguments& arguments, const char* name, int otherwise, int low, int high) {
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t value, arguments.GetInteger(name, otherwise, low, high));
  return static_cast<int>(value);
}

absl::StatusOr<algos::Load> TotalOf(const std::string& path, std::vector<algos::Load> windows) {
  if (windows.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": no windows"));
  algos::Problem problem{.shape = {.num_experts = windows[0].num_experts}, .num_layers = windows[0].num_layers};
  problem.episodes = std::move(windows);
  return algos::TotalLoad(problem);
}

Picture RanksPicture(const algos::Load& load, const algos::Shape& shape, const std::vector<algos::LayerPlan>& plans) {
  Picture picture{.cell = "rank", .unit = "tokens"};
  const algos::Problem problem{.shape = shape, .num_layers = load.num_layers};
  for (int l = 0; l < load.num_layers; ++l) {
    picture.values.push_back(RankCosts(problem, plans[static_cast<size_t>(l)], load.layer(LayerId(l))));
  }
  return picture;
}

absl::StatusOr<Picture> PictureOfLoads(const Arguments& arguments, const std::string& path, std::string_view bytes) {
  if (arguments.Has("loads"))
    return absl::InvalidArgumentError(absl::StrCat("--loads goes with a map; ", path, " is loads"));
  EVENKEEL_ASSIGN_OR_RETURN(const NpyArray array, InFile(path, ParseCounts(bytes)));
  EVENKEEL_ASSIGN_OR_RETURN(std::vector<algos::Load> windows, InFile(path, LoadsOf(array, arguments.Get("window"))));
  const size_t num_windows = windows.size();
  EVENKEEL_ASSIGN_OR_RETURN(const algos::Load load, TotalOf(path, std::move(windows)));
  const std::string sizes = absl::StrFormat("%s: loads of %d layers, %d experts, %d window%s", path, load.num_layers,
                                            load.num_experts, num_windows, num_windows == 1 ? "" : "s");
  if (!arguments.Has("ranks")) {
    Picture picture{.title = sizes, .cell = "expert", .unit = "tokens"};
    for (int l = 0; l < load.num_layers; ++l) {
      const auto tokens = load.layer(LayerId(l));
      picture.values.emplace_back(tokens.begin(), tokens.end());
    }
    return picture;
  }
  EVENKEEL_ASSIGN_OR_RETURN(const int ranks, SmallFrom(arguments, "ranks", 0, 1, kRanksMax));
  const int least = (load.num_experts + ranks - 1) / ranks;
  EVENKEEL_ASSIGN_OR_RETURN(const int slots, SmallFrom(arguments, "slots-per-rank", least, least, kSlotsMax / ranks));
  const algos::Shape shape{.num_experts = load.num_experts, .num_ranks = ranks, .slots_per_rank = slots};
  const std::vector<algos::LayerPlan> plans(static_cast<size_t>(load.num_layers), {algos::DefaultPlacement(shape)});
  Picture picture = RanksPicture(load, shape, plans);
  picture.title = absl::StrFormat("%s; on %d ranks x %d slots, initial placement", sizes, ranks, slots);
  return picture;
}

absl::StatusOr<Picture> PictureOfMap(const Arguments& arguments, const std::string& path, std::string_view bytes) {
  EVENKEEL_ASSIGN_OR_RETURN(const int ranks, SmallFrom(arguments, "ranks", 0, 1, kRanksMax));
  EVENKEEL_ASSIGN_OR_RETURN(const int first_layer, SmallFrom(arguments, "first-layer", 0, 0, kLayersMax));
  if (arguments.Has("slots-per-rank")) return absl::InvalidArgumentError("--slots-per-rank: the map says it");
  EVENKEEL_ASSIGN_OR_RETURN(
      const MapFile map, InFile(path, ParseMap(bytes, std::nullopt, {.num_ranks = ranks, .first_layer = first_layer})));
  const algos::Shape& shape = map.shape;
  const std::string sizes =
      absl::StrFormat("%s: a map of %d layers, %d experts in %d slots on %d ranks (%d redundant)", path,
                      map.layers.size(), shape.num_experts, shape.num_slots(), shape.num_ranks, shape.num_redundant());
  if (!arguments.Has("loads")) {
    if (arguments.Has("window")) return absl::InvalidArgumentError("--window goes with loads; give --loads");
    Picture picture{.title = sizes, .cell = "expert", .unit = "replicas", .relative = false};
    for (const algos::LayerPlan& plan : map.layers) {
      const algos::Replicas replicas = algos::Invert(plan.placement, shape.num_experts);
      std::vector<double>& counts = picture.values.emplace_back();
      for (int e = 0; e < shape.num_experts; ++e) counts.push_back(replicas.num_replicas(ExpertId(e)));
    }
    return picture;
  }
  const std::string loads_path = arguments.Get("loads");
  EVENKEEL_ASSIGN_OR_RETURN(std::vector<algos::Load> windows, ReadLoads(loads_path, arguments.Get("window")));
  EVENKEEL_ASSIGN_OR_RETURN(const algos::Load load, TotalOf(loads_path, std::move(windows)));
  if (load.num_layers != static_cast<int>(map.layers.size()) || load.num_experts != shape.num_experts) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: loads of %d layers x %d experts; the map has %d x %d",
                                                      loads_path, load.num_layers, load.num_experts, map.layers.size(),
                                                      shape.num_experts));
  }
  Picture picture = RanksPicture(load, shape, map.layers);
  picture.title = absl::StrCat(sizes, "; loads of ", loads_path);
  return picture;
}

double MeanOf(const std::vector<double>& values) {
  double sum = 0;
  for (double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

void PrintJson(const Context& context, const Picture& picture, const std::vector<uint32_t>& layers) {
  nlohmann::ordered_json json = {{"cell", picture.cell}, {"unit", picture.unit}};
  json["layers"] = nlohmann::ordered_json::array();
  for (uint32_t layer : layers) {
    const std::vector<double>& values = picture.values[layer];
    nlohmann::ordered_json entry = {{"layer", layer}, {"max_over_mean", algos::LayerImbalance(values)}};
    entry["values"] = values;
    json["layers"].push_back(std::move(entry));
  }
  context.out << json.dump() << "\n";
}

absl::StatusOr<int> WidthFrom(const Context& context) {
  int width = 100;
  winsize size{};
  if (context.terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) width = size.ws_col;
  return SmallFrom(context.arguments, "width", std::max(width, 20), 20, 10000);
}

void PrintHeat(const Context& context, const Picture& picture, const std::vector<uint32_t>& layers, int width) {
  std::vector<HeatRow> rows;
  for (uint32_t layer : layers) {
    HeatRow row{.name = absl::StrCat("layer ", layer), .values = picture.values[layer], .note = ""};
    const double mean = MeanOf(row.values), max = *std::ranges::max_element(row.values);
    row.note = picture.relative ? absl::StrFormat("max/mean %.3f", mean > 0 ? max / mean : 1.0)
                                : absl::StrFormat("at most %.0f", max);
    if (picture.relative && mean > 0) {
      for (double& value : row.values) value /= mean;
    }
    rows.push_back(std::move(row));
  }
  const HeatMap map = RenderHeatMap(rows, {.width = width, .colour = context.terminal});
  context.out << picture.title << "\n\n" << map.text << "\n";
  context.out << (map.values_per_cell == 1
                      ? absl::StrCat("a cell is one ", picture.cell)
                      : absl::StrCat("a cell is the highest of ", map.values_per_cell, " ", picture.cell, "s"))
              << "; 0 |" << map.legend << "| " << absl::StrFormat("%.2f", map.largest)
              << (picture.relative ? " times the layer's mean\n" : absl::StrCat(" ", picture.unit, "\n"));
}

absl::StatusOr<int> Run(const Context& context) {
  const Arguments& arguments = context.arguments;
  const std::string path = arguments.Get("FILE");
  EVENKEEL_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kNpyBytesMax));
  const bool is_map = DetectMapFormat(bytes).has_value();
  EVENKEEL_ASSIGN_OR_RETURN(const Picture picture,
                            is_map ? PictureOfMap(arguments, path, bytes) : PictureOfLoads(arguments, path, bytes));
  EVENKEEL_ASSIGN_OR_RETURN(std::vector<uint32_t> layers,
                            arguments.GetRanges("layers", static_cast<uint32_t>(picture.values.size() - 1)));
  for (uint32_t l = 0; layers.size() < picture.values.size() && !arguments.Has("layers"); ++l) layers.push_back(l);
  EVENKEEL_ASSIGN_OR_RETURN(const int width, WidthFrom(context));
  if (context.json) {
    PrintJson(context, picture, layers);
  } else {
    PrintHeat(context, picture, layers, width);
  }
  return kDone;
}

}  // namespace

const Command kShowCommand = {
    .name = "show",
    .summary = "loads or a map as a heat map",
    .teaching =
        "Draws a line a layer. Of loads: how busy each expert is, or with --ranks each rank under the placement\n"
        "that engines start with. Of a map: how many replicas each expert has, or with --loads how busy each rank\n"
        "would be. Colours on a terminal, characters elsewhere.",
    .options = kOptions,
    .run = Run,
    .operands = kOperands,
    .offline = true};

}  // namespace evenkeel::cli
