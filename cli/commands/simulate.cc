// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"

#include "algos/base/status_macros.h"
#include "algos/placement.h"
#include "algos/policy.h"
#include "algos/problem.h"
#include "algos/rank_cost.h"
#include "cli/command.h"
#include "cli/files/file.h"
#include "cli/files/loads.h"
#include "cli/files/map_formats.h"
#include "cli/problem_options.h"
#include "cli/report/report.h"
#include "cli/simulate/maps_file.h"
#include "cli/simulate/progress.h"
#include "cli/simulate/simulation.h"
#include "cli/table.h"

namespace evenkeel::cli {

namespace {

constexpr Option kOptions[] = {
    {"ranks", "R", "ranks of the group; needed"},
    {"slots-per-rank", "S", "slots of each rank; needed"},
    {"nodes", "N", "nodes that the ranks are on, node-major (default 1)"},
    {"expert-groups", "G", "groups of experts that routing keeps together (default 1)"},
    {"capacities", "C,C,...", "relative speed of each rank (default: all equal)"},
    {"cost", "A,B", "cost of a rank: A for each expert in use + B for each token (default 0,1)"},
    {"policy", "P[,Q,...]", "who plans; several are compared ('keelctl policies' names them)"},
    {"policy-config", "K=V,...", "options of the policies, each for those that have it"},
    {"map", "FILE", "the map that policy static takes over, from its first moment on"},
    {"interval", "W[,X,...]", "plan every W windows (default 100); several are compared"},
    {"history", "H", "plan on the last H windows (default: as many as the interval)"},
    {"warmup", "N", "score and count moves from window N on (default 100)"},
    {"shares", "", "solve shares before every window, where the policy would split evenly"},
    {"shares-windows", "N", "on the last N windows (default 5)"},
    {"expert-bytes", "B", "size of an expert in one layer: moves take time, with the next two"},
    {"link-gbps", "G", "what a rank receives, and sends, in 10^9 bits a second"},
    {"window-seconds", "T", "how long a window is"},
    {"maps", "FILE", "write every map, one JSON object a line; several runs: FILE with their names"},
    {"report", "FILE", "write a page to look at (HTML, in one file)"},
};

absl::StatusOr<std::vector<int>> IntervalsFrom(const Arguments& arguments) {
  std::vector<int> intervals;
  for (absl::string_view word : absl::StrSplit(arguments.Get("interval", "100"), ',')) {
    int interval = 0;
    if (!absl::SimpleAtoi(word, &interval) || interval < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("--interval=", arguments.Get("interval"), ": '", word, "' is no number of windows"));
    }
    intervals.push_back(interval);
  }
  return intervals;
}

absl::StatusOr<std::optional<algos::LinkSpeed>> LinksFrom(const Arguments& arguments) {
  constexpr const char* kNames[] = {"expert-bytes", "link-gbps", "window-seconds"};
  const auto given = std::ranges::count_if(kNames, [&](const char* name) { return arguments.Has(name); });
  if (given == 0) return std::nullopt;
  if (given < 3) {
    return absl::InvalidArgumentError("--expert-bytes, --link-gbps and --window-seconds go together");
  }
  algos::LinkSpeed speed;
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t bytes, arguments.GetInteger("expert-bytes", 0, 1, int64_t{1} << 50));
  EVENKEEL_ASSIGN_OR_RETURN(const double gbps, arguments.GetNumber("link-gbps", 0, 1e-6, 1e9));
  EVENKEEL_ASSIGN_OR_RETURN(speed.window_seconds, arguments.GetNumber("window-seconds", 0, 1e-6, 1e9));
  speed.expert_bytes = static_cast<uint64_t>(bytes);
  speed.link_bytes_per_second = gbps * 1e9 / 8;
  return speed;
}

// The placements of --map, which policy static needs.
absl::StatusOr<std::vector<algos::Placement>> PlacementsFrom(const Arguments& arguments,
                                                             const SimulationOptions& options, int num_layers) {
  std::vector<algos::Placement> placements;
  const bool is_static = std::ranges::find(options.policies, "static") != options.policies.end();
  if (is_static != arguments.Has("map")) return absl::InvalidArgumentError("--policy=static and --map go together");
  if (!is_static) return placements;
  const std::string path = arguments.Get("map");
  const MapHints hints{.num_ranks = options.shape.num_ranks, .num_experts = options.shape.num_experts};
  EVENKEEL_ASSIGN_OR_RETURN(const MapFile map, ReadMap(path, std::nullopt, hints));
  if (!(map.shape == options.shape) || map.layers.size() != static_cast<size_t>(num_layers)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": a map of ", map.layers.size(), " layers and ",
                                                   map.shape.slots_per_rank, " slots a rank; the simulation has ",
                                                   num_layers, " and ", options.shape.slots_per_rank));
  }
  for (const algos::LayerPlan& layer : map.layers) placements.push_back(layer.placement);
  return placements;
}

absl::StatusOr<SimulationOptions> OptionsFrom(const Arguments& arguments, const algos::Load& load) {
  EVENKEEL_ASSIGN_OR_RETURN(const algos::Problem problem,
                            ProblemFrom(arguments, {.num_layers = load.num_layers, .num_experts = load.num_experts}));
  SimulationOptions options{.shape = problem.shape,
                            .num_nodes = problem.num_nodes,
                            .num_expert_groups = problem.num_expert_groups,
                            .solve_shares = arguments.Has("shares"),
                            .rules = algos::RulesOf(problem)};
  const std::string policies = arguments.Get("policy", std::string(DefaultPolicyName()));
  options.policies = absl::StrSplit(policies, ',');
  EVENKEEL_ASSIGN_OR_RETURN(options.intervals, IntervalsFrom(arguments));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t history, arguments.GetInteger("history", 0, 1, INT_MAX));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t warmup, arguments.GetInteger("warmup", options.warmup, 0, INT_MAX));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t shares_windows,
                            arguments.GetInteger("shares-windows", options.shares_windows, 1, INT_MAX));
  EVENKEEL_ASSIGN_OR_RETURN(options.config, PolicyConfigFrom(arguments));
  EVENKEEL_ASSIGN_OR_RETURN(options.config.placements, PlacementsFrom(arguments, options, load.num_layers));
  EVENKEEL_ASSIGN_OR_RETURN(options.links, LinksFrom(arguments));
  options.history = static_cast<int>(history);
  options.warmup = static_cast<int>(warmup);
  options.shares_windows = static_cast<int>(shares_windows);
  return options;
}

// out.jsonl and deepseek/20: out.deepseek-20.jsonl.
std::string PathOf(const std::string& path, std::string run) {
  std::ranges::replace(run, '/', '-');
  const size_t slash = path.rfind('/'), dot = path.rfind('.');
  if (dot == std::string::npos || (slash != std::string::npos && dot < slash)) return absl::StrCat(path, ".", run);
  return absl::StrCat(path.substr(0, dot), ".", run, path.substr(dot));
}

// Where the maps of each run go: a file for each but the first, which never changes its maps.
std::map<std::string, std::string> MapsPaths(const Arguments& arguments, const std::vector<SimulationRun>& runs) {
  std::map<std::string, std::string> paths;
  if (!arguments.Has("maps")) return paths;
  const std::string path = arguments.Get("maps");
  for (size_t r = 1; r < runs.size(); ++r) {
    paths[runs[r].name] = runs.size() > 2 ? PathOf(path, runs[r].name) : path;
  }
  return paths;
}

class MapsFiles {
 public:
  static absl::StatusOr<MapsFiles> Create(const std::map<std::string, std::string>& paths, int num_experts) {
    MapsFiles files;
    for (const auto& [run, path] : paths) {
      EVENKEEL_ASSIGN_OR_RETURN(MapsFile file, MapsFile::Create(path, num_experts));
      files.files_.emplace(run, std::move(file));
    }
    return files;
  }

  void Write(const std::string& run, const algos::MapChange& change) {
    if (const auto file = files_.find(run); file != files_.end()) file->second.Write(change);
  }
  absl::Status Commit() {
    for (auto& [run, file] : files_) EVENKEEL_RETURN_IF_ERROR(file.Commit());
    return absl::OkStatus();
  }

 private:
  std::map<std::string, MapsFile> files_;
};

absl::Status CheckFiles(const Arguments& arguments, const std::map<std::string, std::string>& maps_paths) {
  std::vector<NamedPath> outputs, inputs = {{"TIMELINE", arguments.Get("TIMELINE")}};
  for (const auto& [run, path] : maps_paths) outputs.push_back({"--maps", path});
  if (arguments.Has("report")) outputs.push_back({"--report", arguments.Get("report")});
  if (arguments.Has("map")) inputs.push_back({"--map", arguments.Get("map")});
  return CheckOutputs(outputs, inputs);
}

// As a reader of `digits` decimals sees it.
double Rounded(double value, int digits) {
  return std::strtod(absl::StrFormat("%.*f", digits, value).c_str(), nullptr);
}

nlohmann::ordered_json RunJson(const Simulation& simulation, const SimulationRun& run) {
  const algos::Scores& scores = run.scores;
  nlohmann::ordered_json json = {
      {"name", run.name},
      {"policy", run.policy},
      {"interval", run.interval},
      {"history", run.history},
      {"shares", run.solves_shares},
      {"noise_floor", Rounded(simulation.noise_floor, 4)},
      {"excess_over_floor", Rounded(scores.imbalance_mean - simulation.noise_floor, 4)},
      {"imbalance_mean", Rounded(scores.imbalance_mean, 4)},
      {"imbalance_p95", Rounded(scores.imbalance_p95, 4)},
      {"moves_per_layer_per_100_windows", Rounded(scores.moves_per_layer_per_100_windows, 2)},
      {"moves", scores.num_moves},
      {"doubled_slots", Rounded(scores.doubled_slots, 4)},
      {"retired_slots", Rounded(scores.retired_slots, 4)},
      {"imbalance_with_best_shares", Rounded(scores.best_shares_mean, 4)}};
  if (scores.level) {
    json["imbalance_by_cost_mean"] = Rounded(scores.level->mean, 4);
    json["imbalance_by_cost_p95"] = Rounded(scores.level->p95, 4);
    json["imbalance_by_cost_with_best_shares"] = Rounded(scores.level->best_shares_mean, 4);
  }
  return json;
}

// How costs were counted, if not by tokens alone.
void AddRules(const SimulationOptions& options, const Simulation& simulation, nlohmann::ordered_json& json) {
  if (!simulation.bounds.found_level) return;
  json["cost_per_expert"] = options.rules.cost.per_expert;
  json["cost_per_token"] = options.rules.cost.per_token;
  if (!options.rules.capacities.empty()) json["capacities"] = options.rules.capacities;
  json["best_placement_found_by_cost"] = Rounded(*simulation.bounds.found_level, 4);
}

// The figures of a single policy stand at the top, too.
std::string JsonOf(const std::string& path, const std::vector<algos::Load>& timeline, const SimulationOptions& options,
                   const Simulation& simulation) {
  nlohmann::ordered_json json = {{"timeline", path},
                                 {"windows", timeline.size()},
                                 {"layers", timeline.front().num_layers},
                                 {"experts", timeline.front().num_experts},
                                 {"ranks", options.shape.num_ranks},
                                 {"slots_per_rank", options.shape.slots_per_rank},
                                 {"warmup", options.warmup},
                                 {"moves_take_time", options.links.has_value()},
                                 {"best_placement_lower_bound", Rounded(simulation.bounds.lower, 4)},
                                 {"best_placement_found", Rounded(simulation.bounds.found, 4)}};
  AddRules(options, simulation, json);
  if (simulation.runs.size() == 2) json.update(RunJson(simulation, simulation.runs.back()));
  json["runs"] = nlohmann::ordered_json::array();
  for (const SimulationRun& run : simulation.runs) json["runs"].push_back(RunJson(simulation, run));
  return json.dump();
}

std::string TableOf(const SimulationOptions& options, const Simulation& simulation) {
  std::vector<std::string> header = {"POLICY", ">EVERY",  ">ON",    "SHARES",   ">IMBALANCE",
                                     ">P95",   ">EXCESS", ">MOVES", ">DOUBLED", ">BEST SHARES"};
  if (options.links) header.push_back(">RETIRED");
  const bool by_cost = simulation.bounds.found_level.has_value();
  if (by_cost) header.insert(header.end(), {">BY COST", ">ITS P95", ">ITS BEST SHARES"});
  Table table(header);
  for (const SimulationRun& run : simulation.runs) {
    const algos::Scores& scores = run.scores;
    std::vector<std::string> row = {run.policy,
                                    run.interval > 0 ? absl::StrCat(run.interval) : "-",
                                    run.interval > 0 ? absl::StrCat(run.history) : "-",
                                    run.solves_shares                                              ? "solved"
                                    : run.interval == 0 && run.policy != simulation.runs[0].policy ? "its own"
                                                                                                   : "even",
                                    absl::StrFormat("%.4f", scores.imbalance_mean),
                                    absl::StrFormat("%.4f", scores.imbalance_p95),
                                    absl::StrFormat("%.4f", scores.imbalance_mean - simulation.noise_floor),
                                    absl::StrFormat("%.2f", scores.moves_per_layer_per_100_windows),
                                    absl::StrFormat("%.2f", scores.doubled_slots),
                                    absl::StrFormat("%.4f", scores.best_shares_mean)};
    if (options.links) row.push_back(absl::StrFormat("%.2f", scores.retired_slots));
    if (by_cost) {
      for (const double figure : {scores.level->mean, scores.level->p95, scores.level->best_shares_mean}) {
        row.push_back(absl::StrFormat("%.4f", figure));
      }
    }
    table.AddRow(row);
  }
  return table.ToString();
}

std::string TextOf(const std::vector<algos::Load>& timeline, const SimulationOptions& options,
                   const Simulation& simulation) {
  std::string text = absl::StrFormat(
      "%d windows, %d layers, %d experts on %d ranks x %d slots; scored from window %d on\n\n%s\n"
      "noise floor %.4f: what sampling leaves where every rank expects the same; EXCESS is over it\n"
      "bounds: BEST SHARES, had they been chosen for each very window; with a placement for each very window\n"
      "        at best %.4f (no placement is better), %.4f found\n"
      "MOVES are per layer and 100 windows, DOUBLED slots of a layer with an expert that the rank has already\n",
      timeline.size(), timeline.front().num_layers, timeline.front().num_experts, options.shape.num_ranks,
      options.shape.slots_per_rank, options.warmup, TableOf(options, simulation), simulation.noise_floor,
      simulation.bounds.lower, simulation.bounds.found);
  if (simulation.bounds.found_level) {
    absl::StrAppendFormat(
        &text,
        "BY COST is IMBALANCE of what ranks' experts in use and tokens cost over their capacities, above\n"
        "        perfect balance of every expert in use on one rank alone; %.4f found for each very window\n",
        *simulation.bounds.found_level);
  }
  return text;
}

absl::StatusOr<int> Run(const Context& context) {
  const std::string path = context.arguments.Get("TIMELINE");
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<algos::Load> timeline, ReadLoads(path));
  EVENKEEL_ASSIGN_OR_RETURN(const SimulationOptions options, OptionsFrom(context.arguments, timeline.front()));
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<SimulationRun> runs, PlanRuns(options));
  const std::map<std::string, std::string> maps_paths = MapsPaths(context.arguments, runs);
  EVENKEEL_RETURN_IF_ERROR(CheckFiles(context.arguments, maps_paths));
  EVENKEEL_ASSIGN_OR_RETURN(MapsFiles maps, MapsFiles::Create(maps_paths, options.shape.num_experts));
  Simulation simulation;
  {
    Progress progress(context.err, context.err_terminal, runs.size() * timeline.size());
    const SimulationObserver observer{
        .on_window = [&](const std::string& run) { progress.Step(run); },
        .on_map = [&](const std::string& run, const algos::MapChange& change) { maps.Write(run, change); }};
    EVENKEEL_ASSIGN_OR_RETURN(simulation, Simulate(timeline, options, observer));
  }
  EVENKEEL_RETURN_IF_ERROR(maps.Commit());
  if (context.arguments.Has("report")) {
    EVENKEEL_RETURN_IF_ERROR(
        WriteFile(context.arguments.Get("report"), RenderReport({path, timeline, options, simulation})));
  }
  context.out << (context.json ? JsonOf(path, timeline, options, simulation) + "\n"
                               : TextOf(timeline, options, simulation));
  return kDone;
}

constexpr Operand kOperands[] = {
    {"TIMELINE", "token counts of [windows, layers, experts]: .npy or .json, oldest window first"},
};

}  // namespace

const Command kSimulateCommand = {
    "simulate",
    "replay recorded loads under policies, and score them",
    "Serves the recorded windows one by one, each under maps that were made from the windows before it. Every run\n"
    "starts from the placement that engines start from and is compared with never changing it. Policies plan at\n"
    "window --warmup and every --interval windows before and after; flex chooses its own moments. Given\n"
    "--expert-bytes, --link-gbps and --window-seconds, moves take time: slots leave the maps before they are\n"
    "written, in waves, and come back when their experts have arrived.\n\n"
    "IMBALANCE is the load of the busiest rank over the mean rank, mean over windows and layers; 1 is perfect.",
    kOptions,
    Run,
    kOperands,
    true};

}  // namespace evenkeel::cli
