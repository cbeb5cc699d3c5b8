// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "algos/base/status_macros.h"
#include "cli/command.h"
#include "cli/files/file.h"
#include "cli/files/limits.h"
#include "cli/files/loads.h"
#include "cli/files/map_formats.h"

namespace evenkeel::cli {

namespace {

constexpr Operand kOperands[] = {{"FILE", "a map, or loads"}};
constexpr Option kOptions[] = {
    {"to", "F", "of a map: evenkeel|expert_map|sglang|trtllm; of loads: logical_count|npy"},
    {"from", "F", "the form of a map, where the file does not show it"},
    {"out", "FILE", "where the result goes (default: to the output)"},
    {"ranks", "R", "how many ranks there are; sglang and trtllm maps do not say it"},
    {"experts", "E", "how many experts there are (default: as many as the map names)"},
    {"first-layer", "N",
     "the engine's number of the first MoE layer, after N dense ones (default: as the map says, or 0)"},
};

struct Converted {
  std::string from;
  std::string bytes;
  nlohmann::ordered_json summary;
};

absl::StatusOr<Converted> ConvertLoads(const Arguments& arguments, const std::string& path, std::string_view bytes) {
  for (const char* option : {"from", "ranks", "experts", "first-layer"}) {
    if (arguments.Has(option))
      return absl::InvalidArgumentError(absl::StrCat("--", option, " is of maps, not of loads"));
  }
  EVENKEEL_ASSIGN_OR_RETURN(const NpyArray array, InFile(path, ParseCounts(bytes)));
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<algos::Load> windows, InFile(path, LoadsOf(array)));
  Converted converted{.from = "loads", .bytes = "", .summary = {}};
  converted.bytes = arguments.Get("to") == "npy" ? RenderNpy(ArrayOf(windows)) : RenderLogicalCount(windows);
  converted.summary = {
      {"num_windows", windows.size()}, {"num_layers", windows[0].num_layers}, {"num_experts", windows[0].num_experts}};
  return converted;
}

absl::StatusOr<Converted> ConvertMap(const Context& context, const std::string& path, std::string_view bytes) {
  const Arguments& arguments = context.arguments;
  std::optional<MapFormat> from;
  if (arguments.Has("from")) {
    EVENKEEL_ASSIGN_OR_RETURN(from, FindMapFormat(arguments.Get("from")));
  } else {
    from = DetectMapFormat(bytes);
  }
  EVENKEEL_ASSIGN_OR_RETURN(const MapFormat to, FindMapFormat(arguments.Get("to")));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t ranks, arguments.GetInteger("ranks", 0, 1, kRanksMax));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t experts, arguments.GetInteger("experts", 0, 1, kExpertsMax));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t first_layer, arguments.GetInteger("first-layer", 0, 0, kLayersMax));
  const MapHints hints{.num_ranks = static_cast<int>(ranks),
                       .num_experts = static_cast<int>(experts),
                       .first_layer = static_cast<int>(first_layer)};
  absl::StatusOr<MapFile> read = ParseMap(bytes, from, hints);
  if (!read.ok() && ranks == 0 && (from == MapFormat::kSglang || from == MapFormat::kTrtllm)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", read.status().message(), "; does it lack --ranks?"));
  }
  EVENKEEL_ASSIGN_OR_RETURN(MapFile map, InFile(path, std::move(read)));
  if (arguments.Has("first-layer")) map.first_layer = hints.first_layer;
  Converted converted{.from = from ? std::string(NameOf(*from)) : "", .bytes = "", .summary = {}};
  EVENKEEL_ASSIGN_OR_RETURN(converted.bytes, InFile(path, RenderMap(map, to)));
  if (std::ranges::any_of(map.layers, [](const auto& plan) { return !plan.shares.empty(); }) && !KeepsShares(to)) {
    context.err << "note: " << NameOf(to) << " does not keep shares; its engine splits tokens evenly\n";
  }
  converted.summary = {{"num_layers", map.layers.size()},
                       {"num_experts", map.shape.num_experts},
                       {"num_ranks", map.shape.num_ranks},
                       {"slots_per_rank", map.shape.slots_per_rank},
                       {"num_redundant", map.shape.num_redundant()},
                       {"first_layer", map.first_layer}};
  return converted;
}

absl::StatusOr<int> Run(const Context& context) {
  const Arguments& arguments = context.arguments;
  if (!arguments.Has("to")) return absl::InvalidArgumentError("--to is needed: the form that is wanted");
  if (context.json && !arguments.Has("out"))
    return absl::InvalidArgumentError("--json needs --out: both go to the output");
  const std::string path = arguments.Get("FILE"), to = arguments.Get("to");
  EVENKEEL_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kNpyBytesMax));
  const bool loads = to == "npy" || to == "logical_count";
  EVENKEEL_ASSIGN_OR_RETURN(Converted converted,
                            loads ? ConvertLoads(arguments, path, bytes) : ConvertMap(context, path, bytes));
  if (!arguments.Has("out")) {
    context.out << converted.bytes;
    return kDone;
  }
  EVENKEEL_RETURN_IF_ERROR(WriteFile(arguments.Get("out"), converted.bytes));
  if (context.json) {
    nlohmann::ordered_json json = {{"from", converted.from}, {"to", to}};
    json.update(converted.summary);
    context.out << json.dump() << "\n";
  } else {
    context.err << "written to " << arguments.Get("out") << "\n";
  }
  return kDone;
}

}  // namespace

const Command kConvertCommand = {
    .name = "convert",
    .summary = "a map or loads in another form",
    .teaching =
        "Maps: evenkeel, expert_map (vllm-ascend's expert_map.json), sglang (physical_to_logical_map of\n"
        "--init-expert-location), trtllm (initial_global_assignments of moe_load_balancer.yaml). Loads: npy, and\n"
        "logical_count, from which SGLang plans by itself. Only evenkeel keeps shares and blank slots.\n"
        "  keelctl convert plan.json --to=trtllm --first-layer=3 --out=moe_load_balancer.yaml\n"
        "  keelctl convert moe_load_balancer.yaml --ranks=32 --to=expert_map --out=expert_map.json",
    .options = kOptions,
    .run = Run,
    .operands = kOperands,
    .offline = true};

}  // namespace evenkeel::cli
