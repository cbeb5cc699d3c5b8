// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <climits>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

#include "algos/base/ids.h"
#include "algos/base/status_macros.h"
#include "algos/placement.h"
#include "algos/policies/registry.h"
#include "algos/policies/repair/protection.h"
#include "algos/problem.h"
#include "algos/survivability.h"
#include "cli/command.h"
#include "cli/files/file.h"
#include "cli/files/limits.h"
#include "cli/files/loads.h"
#include "cli/files/map_formats.h"
#include "cli/plan_report.h"
#include "cli/problem_options.h"
#include "cli/table.h"

namespace evenkeel::cli {

namespace {

constexpr std::array<Option, 2> kLoadOptions = {{
    {"loads", "FILE", "tokens per expert: .npy or .json of [experts], [layers, experts] or [windows, layers, experts]"},
    {"window", "A:B", "plan from windows A to B-1 alone; negative ones count from the end (default: all)"},
}};
constexpr Option kPlanOptions[] = {
    {"map", "FILE", "the map that policy static takes over"},
    {"current", "FILE", "the map that is in force; says --ranks and --slots-per-rank too"},
    {"max-moves", "M", "at most so many moves a layer (default: no limit)"},
    {"layers", "L", "plan these alone, for example 0,3-5; others stay as in --current"},
    {"shares", "", "write the best shares with the plan where the policy has none of its own"},
    {"expert-bytes", "B", "size of an expert's weights in a layer: prints bytes to be moved"},
    {"out", "FILE", "where the plan is written (default: nowhere)"},
    {"format", "F", "of --out: evenkeel|expert_map|sglang|trtllm (default evenkeel)"},
    {"first-layer", "N", "the engine's number of the first MoE layer: dense layers before it (default 0)"},
};
constexpr auto kOptions = Joined(Joined(Joined(kLoadOptions, kGroupOptions), kPolicyOptions), kPlanOptions);

struct Plan {
  algos::Problem problem;
  std::string policy;
  int first_layer = 0;
  std::vector<algos::LayerPlan> before, after;
  PlanReport report;
  double seconds = 0;
};

absl::StatusOr<std::optional<MapFile>> MapFrom(const Arguments& arguments, const char* option, const MapHints& hints) {
  if (!arguments.Has(option)) return std::nullopt;
  EVENKEEL_ASSIGN_OR_RETURN(MapFile map, ReadMap(arguments.Get(option), std::nullopt, hints));
  return map;
}

absl::Status CheckLayers(const MapFile& map, const std::string& path, int num_layers) {
  if (map.layers.size() == static_cast<size_t>(num_layers)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": a map of ", map.layers.size(), " layers; the loads have ", num_layers));
}

// What the options say, up to the policy's turn.
absl::StatusOr<Plan> Prepare(const Arguments& arguments, algos::PolicyConfig& config) {
  if (!arguments.Has("loads")) return absl::InvalidArgumentError("--loads is needed: the file with tokens per expert");
  EVENKEEL_ASSIGN_OR_RETURN(std::vector<algos::Load> windows,
                            ReadLoads(arguments.Get("loads"), arguments.Get("window")));
  const int num_layers = windows[0].num_layers, num_experts = windows[0].num_experts;
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t ranks, arguments.GetInteger("ranks", 0, 1, kRanksMax));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t first_layer, arguments.GetInteger("first-layer", 0, 0, kLayersMax));
  const MapHints hints{
      .num_ranks = static_cast<int>(ranks), .num_experts = num_experts, .first_layer = static_cast<int>(first_layer)};
  EVENKEEL_ASSIGN_OR_RETURN(const std::optional<MapFile> current, MapFrom(arguments, "current", hints));
  EVENKEEL_ASSIGN_OR_RETURN(const std::optional<MapFile> map, MapFrom(arguments, "map", hints));
  KnownSizes known{.num_layers = num_layers, .num_experts = num_experts};
  for (const auto& [option, file] : {std::pair{"map", &map}, std::pair{"current", &current}}) {
    if (!file->has_value()) continue;
    EVENKEEL_RETURN_IF_ERROR(CheckLayers(**file, arguments.Get(option), num_layers));
    known.num_ranks = (*file)->shape.num_ranks, known.slots_per_rank = (*file)->shape.slots_per_rank;
  }
  if (map && current && !(map->shape == current->shape)) {
    return absl::InvalidArgumentError("--map and --current are of different ranks or slots");
  }
  Plan plan;
  plan.policy = arguments.Has("policy") ? arguments.Get("policy") : std::string(DefaultPolicyName());
  EVENKEEL_ASSIGN_OR_RETURN(plan.problem, ProblemFrom(arguments, known));
  plan.problem.episodes = std::move(windows);
  plan.first_layer = current ? current->first_layer : hints.first_layer;
  EVENKEEL_ASSIGN_OR_RETURN(config, PolicyConfigFrom(arguments));
  if (map) {
    for (const algos::LayerPlan& layer : map->layers) config.placements.push_back(layer.placement);
  }
  if (current) plan.before = current->layers;
  return plan;
}

absl::Status SetLimits(const Arguments& arguments, Plan& plan) {
  algos::Problem& problem = plan.problem;
  EVENKEEL_ASSIGN_OR_RETURN(const auto layers,
                            arguments.GetRanges("layers", static_cast<uint32_t>(problem.num_layers - 1)));
  for (uint32_t layer : layers) problem.layers.push_back(LayerId(static_cast<int>(layer)));
  if (arguments.Has("max-moves")) {
    EVENKEEL_ASSIGN_OR_RETURN(const int64_t moves, arguments.GetInteger("max-moves", 0, 0, INT_MAX));
    problem.moves_max.assign(static_cast<size_t>(problem.num_layers), static_cast<int>(moves));
  }
  const bool counted = !problem.moves_max.empty() || !problem.layers.empty();
  const bool given = !plan.before.empty();
  if (!given) plan.before.assign(static_cast<size_t>(problem.num_layers), {algos::DefaultPlacement(problem.shape)});
  // Engines start from the initial placement; a plan for a fresh start owes it nothing.
  if (given || counted) problem.current = algos::PlacementsOf(plan.before);
  return algos::Validate(problem);
}

absl::Status CheckPolicy(const Arguments& arguments, Plan& plan) {
  const absl::StatusOr<algos::NamedPolicy> policy = algos::FindPolicy(plan.policy);
  if (!policy.ok()) return absl::InvalidArgumentError(policy.status().message());
  plan.policy = std::string(policy->name);
  const bool is_static = policy->name == "static";
  if (is_static && !arguments.Has("map")) return absl::InvalidArgumentError("--policy=static needs --map");
  if (!is_static && arguments.Has("map")) return absl::InvalidArgumentError("--map goes with --policy=static alone");
  return absl::OkStatus();
}

absl::StatusOr<Plan> PlanFrom(const Arguments& arguments) {
  algos::PolicyConfig config;
  EVENKEEL_ASSIGN_OR_RETURN(Plan plan, Prepare(arguments, config));
  EVENKEEL_RETURN_IF_ERROR(CheckPolicy(arguments, plan));
  EVENKEEL_RETURN_IF_ERROR(SetLimits(arguments, plan));
  const absl::Time begin = absl::Now();
  EVENKEEL_ASSIGN_OR_RETURN(plan.after, algos::PlanBy(plan.policy, plan.problem, config));
  plan.seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  plan.report = ReportOn(plan.problem, plan.before, plan.after);
  if (!arguments.Has("shares")) return plan;
  const algos::Load load = algos::TotalLoad(plan.problem);
  for (int l = 0; l < plan.problem.num_layers; ++l) {
    algos::LayerPlan& layer = plan.after[static_cast<size_t>(l)];
    if (layer.shares.empty()) layer.shares = SolvedShares(plan.problem, layer.placement, load.layer(LayerId(l)));
  }
  return plan;
}

absl::Status WritePlan(const Context& context, const Plan& plan) {
  EVENKEEL_ASSIGN_OR_RETURN(const MapFormat format, FindMapFormat(context.arguments.Get("format", "evenkeel")));
  if (!context.arguments.Has("out")) return absl::OkStatus();
  const MapFile map{.shape = plan.problem.shape, .first_layer = plan.first_layer, .layers = plan.after};
  EVENKEEL_ASSIGN_OR_RETURN(const std::string bytes, RenderMap(map, format));
  EVENKEEL_RETURN_IF_ERROR(WriteFile(context.arguments.Get("out"), bytes));
  const bool shared = std::ranges::any_of(plan.after, [](const auto& layer) { return !layer.shares.empty(); });
  if (shared && !KeepsShares(format)) {
    context.err << "note: " << NameOf(format) << " does not keep shares; its engine splits tokens evenly\n";
  }
  return absl::OkStatus();
}

// What a planned layer survives.
struct Surviving {
  algos::Survivability of;
  std::vector<ExpertId> at_risk;
};
Surviving SurvivingOf(const algos::Problem& problem, const algos::LayerPlan& plan) {
  return {algos::SurvivabilityOf(plan.placement, problem.shape, algos::HostOfRank(problem)),
          algos::ExpertsAtRisk(problem, plan.placement)};
}

void AddSurviving(const Surviving& surviving, nlohmann::ordered_json& json) {
  json["ranks_may_be_lost"] = surviving.of.ranks.serving;
  json["hosts_may_be_lost"] = surviving.of.hosts.serving;
  json["experts_at_risk"] = nlohmann::ordered_json::array();
  for (ExpertId expert : surviving.at_risk) json["experts_at_risk"].push_back(expert.value());
}

// One line for all layers, and one for each of the first that fall short of what is asked.
void PrintSurviving(const Context& context, const algos::Problem& problem, const std::vector<algos::LayerPlan>& plans) {
  constexpr int kLayersShown = 4;
  constexpr size_t kExpertsShown = 16;
  int ranks = INT_MAX, hosts = INT_MAX, num_short = 0;
  std::string shown;
  for (size_t l = 0; l < plans.size(); ++l) {
    const Surviving surviving = SurvivingOf(problem, plans[l]);
    ranks = std::min(ranks, surviving.of.ranks.serving);
    hosts = std::min(hosts, surviving.of.hosts.serving);
    if (surviving.at_risk.empty() || ++num_short > kLayersShown) continue;
    absl::StrAppend(&shown, "at risk in layer ", l, ": ", surviving.at_risk.size(), " experts,");
    for (size_t i = 0; i < std::min(surviving.at_risk.size(), kExpertsShown); ++i) {
      absl::StrAppend(&shown, " ", surviving.at_risk[i].value());
    }
    absl::StrAppend(&shown, surviving.at_risk.size() > kExpertsShown ? " and more\n" : "\n");
  }
  context.out << "any " << ranks << " ranks may be lost, or any " << hosts << " hosts, and no expert is\n" << shown;
  if (num_short > kLayersShown) {
    context.out << "and in " << num_short - kLayersShown << " further layers (--json names all)\n";
  }
}

nlohmann::ordered_json LayerJson(const LayerReport& layer, uint64_t expert_bytes) {
  nlohmann::ordered_json json = {{"imbalance_before", layer.before}, {"imbalance_even", layer.after_even}};
  json["imbalance_shares"] = layer.after_shares;
  if (layer.after_own_shares) json["imbalance_own_shares"] = *layer.after_own_shares;
  if (layer.num_lost_before > 0) json["experts_lost_before"] = layer.num_lost_before;
  json["moves"] = layer.num_moves;
  if (expert_bytes != 0) json["bytes"] = static_cast<uint64_t>(layer.num_moves) * expert_bytes;
  return json;
}

void PrintJson(const Context& context, const Plan& plan, uint64_t expert_bytes) {
  const algos::Shape& shape = plan.problem.shape;
  nlohmann::ordered_json json = {{"policy", plan.policy},
                                 {"num_experts", shape.num_experts},
                                 {"num_ranks", shape.num_ranks},
                                 {"slots_per_rank", shape.slots_per_rank},
                                 {"num_redundant", shape.num_redundant()},
                                 {"num_windows", plan.problem.episodes.size()},
                                 {"planning_seconds", plan.seconds}};
  const PlanReport& report = plan.report;
  json.update(LayerJson(report.all, expert_bytes));
  for (size_t l = 0; l < report.layers.size(); ++l) {
    nlohmann::ordered_json layer = LayerJson(report.layers[l], expert_bytes);
    AddSurviving(SurvivingOf(plan.problem, plan.after[l]), layer);
    json["layers"].push_back(std::move(layer));
  }
  context.out << json.dump() << "\n";
}

void PrintTable(const Context& context, const Plan& plan, uint64_t expert_bytes) {
  const algos::Shape& shape = plan.problem.shape;
  const size_t num_windows = plan.problem.episodes.size();
  context.out << absl::StrFormat(
      "%d layers, %d experts in %d slots on %d ranks (%d redundant), %d window%s, policy %s\n\n",
      plan.problem.num_layers, shape.num_experts, shape.num_slots(), shape.num_ranks, shape.num_redundant(),
      num_windows, num_windows == 1 ? "" : "s", plan.policy);
  const PlanReport& report = plan.report;
  const bool own =
      std::ranges::any_of(report.layers, [](const auto& layer) { return layer.after_own_shares.has_value(); });
  std::vector<std::string> header = {">LAYER", ">BEFORE", ">EVEN", ">SHARES"};
  if (own) header.push_back(">ITS SHARES");
  header.push_back(">MOVES");
  if (expert_bytes != 0) header.push_back(">BYTES");
  Table table(header);
  const auto add = [&](std::string name, const LayerReport& layer) {
    std::vector<std::string> cells = {std::move(name), ImbalanceText(layer.before), ImbalanceText(layer.after_even),
                                      ImbalanceText(layer.after_shares)};
    if (own) cells.push_back(layer.after_own_shares ? ImbalanceText(*layer.after_own_shares) : "-");
    cells.push_back(absl::StrCat(layer.num_moves));
    if (expert_bytes != 0) cells.push_back(BytesText(static_cast<uint64_t>(layer.num_moves) * expert_bytes));
    table.AddRow(std::move(cells));
  };
  for (size_t l = 0; l < report.layers.size(); ++l) add(absl::StrCat(l), report.layers[l]);
  add("all", report.all);
  context.out << table.ToString();
  if (own && num_windows > 1) {
    context.out << "ITS SHARES, which --out writes, are the policy's for what comes next; all columns judge the sum of "
                   "the windows\n";
  }
  if (report.all.num_lost_before > 0) {
    context.out << absl::StrFormat("BEFORE leaves out the tokens of %d lost expert%s: no living rank holds them\n",
                                   report.all.num_lost_before, report.all.num_lost_before == 1 ? "" : "s");
  }
  if (plan.problem.survive.any()) PrintSurviving(context, plan.problem, plan.after);
  context.err << absl::StrFormat("planned in %.3g ms\n", plan.seconds * 1e3);
  if (context.arguments.Has("out")) context.err << "written to " << context.arguments.Get("out") << "\n";
}

absl::StatusOr<int> Run(const Context& context) {
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t bytes, context.arguments.GetInteger("expert-bytes", 0, 1, int64_t{1} << 40));
  EVENKEEL_RETURN_IF_ERROR(FindMapFormat(context.arguments.Get("format", "evenkeel")).status());
  if (context.arguments.Has("out")) {
    EVENKEEL_RETURN_IF_ERROR(
        CheckOutputs({{"--out", context.arguments.Get("out")}}, {{"--loads", context.arguments.Get("loads")}}));
  }
  EVENKEEL_ASSIGN_OR_RETURN(const Plan plan, PlanFrom(context.arguments));
  EVENKEEL_RETURN_IF_ERROR(WritePlan(context, plan));
  (context.json ? PrintJson : PrintTable)(context, plan, static_cast<uint64_t>(bytes));
  return kDone;
}

}  // namespace

const Command kPlanCommand = {
    .name = "plan",
    .summary = "a map for recorded loads, without a cluster",
    .teaching =
        "Plans where experts are to live from recorded loads and prints, for every layer, the imbalance (load of\n"
        "the busiest rank over the mean rank) before, with tokens split evenly over replicas and by the best shares,\n"
        "and the moves: slots that receive an expert their rank did not hold. Before is --current or, without it, the\n"
        "placement that every engine starts with; plans without --current, --max-moves and --layers are for a fresh\n"
        "start. Several windows are several episodes to policies that look at them one by one, one sum to others.\n"
        "  keelctl plan --loads=counts.npy --window=-20: --ranks=32 --slots-per-rank=9 --out=plan.json\n"
        "  keelctl plan --loads=counts.npy --current=plan.json --max-moves=4 --expert-bytes=44040192\n"
        "  keelctl plan --loads=counts.npy --policy=static --map=expert_map.json",
    .options = kOptions,
    .run = Run,
    .offline = true};

}  // namespace evenkeel::cli
