// SPDX-License-Identifier: Apache-2.0
#include "cli/report/report.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_replace.h"
#include "nlohmann/json.hpp"

#include "algos/base/check.h"
#include "cli/report/template.h"

namespace evenkeel::cli {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kDataMark = "@DATA@";

// The windows in `num` spans as equal as can be: the end of each.
std::vector<size_t> Spans(size_t num_windows, size_t num_max) {
  const size_t num = std::min(num_windows, num_max);
  std::vector<size_t> ends;
  for (size_t i = 1; i <= num; ++i) ends.push_back(i * num_windows / num);
  return ends;
}

// Four decimals are more than a screen shows; fewer digits, smaller page.
double Number(double value) { return std::round(value * 1e4) / 1e4; }

// Of each span: the mean, or the sum, of value(window).
template <typename Value>
Json Means(const std::vector<size_t>& ends, Value value) {
  Json means = Json::array();
  size_t begin = 0;
  for (size_t end : ends) {
    double sum = 0;
    for (size_t t = begin; t < end; ++t) sum += value(static_cast<int>(t));
    means.push_back(Number(sum / static_cast<double>(end - begin)));
    begin = end;
  }
  return means;
}

template <typename Value>
Json Sums(const std::vector<size_t>& ends, Value value) {
  Json sums = Json::array();
  size_t begin = 0;
  for (size_t end : ends) {
    int64_t sum = 0;
    for (size_t t = begin; t < end; ++t) sum += value(static_cast<int>(t));
    sums.push_back(sum);
    begin = end;
  }
  return sums;
}

Json LayersOf(const SimulationRun& run, const std::vector<size_t>& ends, int warmup) {
  const algos::ReplayResult& result = run.result;
  const size_t num_ranks = result.rank_loads.size() / static_cast<size_t>(result.num_layers);
  Json layers = Json::array();
  for (int l = 0; l < result.num_layers; ++l) {
    const LayerId layer(l);
    const auto imbalance = [&](int t) { return result.imbalance[result.At(t, layer)]; };
    const auto moves = [&](int t) { return result.moves[result.At(t, layer)]; };
    double mean = 0;
    for (int t = warmup; t < result.num_windows; ++t) mean += imbalance(t) / (result.num_windows - warmup);
    Json ranks = Json::array();
    for (size_t r = 0; r < num_ranks; ++r) {
      ranks.push_back(Number(result.rank_loads[layer.idx() * num_ranks + r] / (result.num_windows - warmup)));
    }
    layers.push_back({{"mean", Number(mean)},
                      {"imbalance", Means(ends, imbalance)},
                      {"moves", Sums(ends, moves)},
                      {"ranks", std::move(ranks)}});
  }
  return layers;
}

Json RunOf(const SimulationRun& run, const std::vector<size_t>& ends, const std::vector<size_t>& layer_ends,
           int warmup) {
  const algos::ReplayResult& result = run.result;
  const auto mean_of = [&](int t) {
    double sum = 0;
    for (int l = 0; l < result.num_layers; ++l) sum += result.imbalance[result.At(t, LayerId(l))];
    return sum / result.num_layers;
  };
  const auto worst_of = [&](int t) {
    const auto first = result.imbalance.begin() + static_cast<std::ptrdiff_t>(result.At(t, LayerId(0)));
    return *std::max_element(first, first + result.num_layers);
  };
  const auto moves_of = [&](int t) {
    int64_t sum = 0;
    for (int l = 0; l < result.num_layers; ++l) sum += result.moves[result.At(t, LayerId(l))];
    return sum;
  };
  const algos::Scores& scores = run.scores;
  Json json = {{"name", run.name},
               {"policy", run.policy},
               {"interval", run.interval},
               {"history", run.history},
               {"solved", run.solves_shares},
               {"mean", Number(scores.imbalance_mean)},
               {"p95", Number(scores.imbalance_p95)},
               {"moves", Number(scores.moves_per_layer_per_100_windows)},
               {"best_shares", Number(scores.best_shares_mean)},
               {"doubled", Number(scores.doubled_slots)},
               {"imbalance", Means(ends, mean_of)},
               {"worst", Means(ends, worst_of)},
               {"moves_over_time", Sums(ends, moves_of)},
               {"layers", LayersOf(run, layer_ends, warmup)}};
  if (scores.level) json["cost"] = {Number(scores.level->mean), Number(scores.level->p95)};
  return json;
}

// One byte a cell: load over the mean expert's, 16 steps to a doubling from 1/8 (1) to 8192 times; 0 for no load.
uint8_t CellOf(double ratio) {
  if (ratio <= 0) return 0;
  return static_cast<uint8_t>(std::clamp(std::lround(std::log2(ratio * 8) * 16) + 1, 1L, 255L));
}

// [expert][span], in base64.
std::string HeatOf(const std::vector<algos::Load>& timeline, const std::vector<size_t>& ends, LayerId layer) {
  const size_t num_experts = static_cast<size_t>(timeline.front().num_experts);
  std::string cells(num_experts * ends.size(), '\0');
  std::vector<double> sums(num_experts);
  size_t begin = 0;
  for (size_t column = 0; column < ends.size(); ++column) {
    std::fill(sums.begin(), sums.end(), 0.0);
    double total = 0;
    for (size_t t = begin; t < ends[column]; ++t) {
      const auto tokens = timeline[t].layer(layer);
      for (size_t e = 0; e < num_experts; ++e) sums[e] += static_cast<double>(tokens[e]);
    }
    for (double sum : sums) total += sum;
    for (size_t e = 0; e < num_experts && total > 0; ++e) {
      cells[e * ends.size() + column] = static_cast<char>(CellOf(sums[e] / total * static_cast<double>(num_experts)));
    }
    begin = ends[column];
  }
  return absl::Base64Escape(cells);
}

}  // namespace

std::string RenderReport(const ReportInput& input) {
  const std::vector<algos::Load>& timeline = input.timeline;
  const SimulationOptions& options = input.options;
  const int num_layers = timeline.front().num_layers, num_experts = timeline.front().num_experts;
  const std::vector<size_t> ends = Spans(timeline.size(), kPointsMax);
  const std::vector<size_t> layer_ends = Spans(timeline.size(), kLayerPointsMax);
  const size_t rows = static_cast<size_t>(num_layers) * static_cast<size_t>(num_experts);
  const std::vector<size_t> heat_ends =
      Spans(timeline.size(), std::clamp<size_t>(kCellsMax / rows, 4, kLayerPointsMax));
  Json runs = Json::array(), heat = Json::array();
  for (const SimulationRun& run : input.simulation.runs) runs.push_back(RunOf(run, ends, layer_ends, options.warmup));
  for (int l = 0; l < num_layers; ++l) heat.push_back(HeatOf(timeline, heat_ends, LayerId(l)));
  Json data = {{"timeline", input.timeline_name},
               {"windows", timeline.size()},
               {"num_layers", num_layers},
               {"num_experts", num_experts},
               {"num_ranks", options.shape.num_ranks},
               {"slots_per_rank", options.shape.slots_per_rank},
               {"warmup", options.warmup},
               {"slow_moves", options.links.has_value()},
               {"floor", Number(input.simulation.noise_floor)},
               {"lower", Number(input.simulation.bounds.lower)},
               {"found", Number(input.simulation.bounds.found)},
               {"ends", ends},
               {"layer_ends", layer_ends},
               {"heat_ends", heat_ends},
               {"heat", std::move(heat)},
               {"runs", std::move(runs)}};
  if (const auto& found = input.simulation.bounds.found_level) data["found_by_cost"] = Number(*found);
  std::string page(kReportTemplate);
  const size_t mark = page.find(kDataMark);
  EVENKEEL_CHECK(mark != std::string::npos);
  // Nothing in it may end the script element; names of files come from outside.
  const std::string text = data.dump(-1, ' ', false, Json::error_handler_t::replace);
  page.replace(mark, kDataMark.size(), absl::StrReplaceAll(text, {{"<", "\\u003c"}}));
  return page;
}

}  // namespace evenkeel::cli
