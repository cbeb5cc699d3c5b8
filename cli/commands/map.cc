// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "algos/base/ids.h"
#include "algos/base/status_macros.h"
#include "algos/policy.h"
#include "cli/command.h"
#include "cli/files/file.h"
#include "cli/files/map_formats.h"
#include "cli/table.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr double kPositions = 4294967296.0;  // 2^32 (LayerMap)
constexpr Option kOptions[] = {
    {"group", "G", "which group; may be left out where there is one"},
    {"layers", "L", "for example 0,3-5 (default: all)"},
    {"out", "FILE", "write the maps of all layers in force to a file, instead of showing them"},
    {"format", "F", "of --out: evenkeel|expert_map|sglang|trtllm (default evenkeel)"},
};

// "rank 3 slot 30 62%  rank 7 slot 64 38%".
std::string SharesText(const v1::LayerMap& map, int first, int count, uint32_t slots_per_rank) {
  std::string text;
  double below = 0;
  for (int i = first; i < first + count; ++i) {
    const double end = static_cast<double>(map.bounds(i)) + 1;
    absl::StrAppendFormat(&text, "%srank %d slot %d %.0f%%", i == first ? "" : "  ", map.slots(i) / slots_per_rank,
                          map.slots(i), (end - below) / kPositions * 100);
    below = end;
  }
  return text.empty() ? "no live replica" : text;
}

void ShowLayer(const Context& context, const v1::LayerMapStatus& layer, uint32_t slots_per_rank) {
  context.out << absl::StrFormat("layer %d, epoch %d.%d\n", layer.layer(), layer.epoch().term(),
                                 layer.epoch().number());
  Table table({">EXPERT", ">REPLICAS", "SHARES"});
  int first = 0;
  for (int e = 0; e < layer.map().replicas_of_expert_size(); ++e) {
    const int count = static_cast<int>(layer.map().replicas_of_expert(e));
    table.AddRow({absl::StrCat(e), absl::StrCat(count), SharesText(layer.map(), first, count, slots_per_rank)});
    first += count;
  }
  context.out << table.ToString() << "\n";
}

algos::LayerPlan PlanOf(const v1::LayerMap& map, const algos::Shape& shape) {
  algos::LayerPlan plan;
  plan.placement.expert_of_slot.assign(static_cast<size_t>(shape.num_slots()), kNoExpert);
  int at = 0;
  for (int e = 0; e < map.replicas_of_expert_size(); ++e) {
    double below = 0;
    for (const int end = at + static_cast<int>(map.replicas_of_expert(e)); at < end; ++at) {
      plan.placement.expert_of_slot[map.slots(at)] = ExpertId(e);
      const double bound = static_cast<double>(map.bounds(at)) + 1;
      plan.shares.push_back((bound - below) / kPositions);
      below = bound;
    }
  }
  return plan;
}

absl::StatusOr<int> Write(const Context& context, const v1::GroupMaps& maps) {
  const std::string path = context.arguments.Get("out");
  EVENKEEL_ASSIGN_OR_RETURN(const MapFormat format, FindMapFormat(context.arguments.Get("format", "evenkeel")));
  MapFile file{.shape = {.num_experts = static_cast<int>(maps.shape().num_experts()),
                         .num_ranks = static_cast<int>(maps.shape().num_ranks()),
                         .slots_per_rank = static_cast<int>(maps.shape().slots_per_rank())}};
  for (const v1::LayerMapStatus& layer : maps.layers()) file.layers.push_back(PlanOf(layer.map(), file.shape));
  EVENKEEL_ASSIGN_OR_RETURN(const std::string bytes, RenderMap(file, format));
  EVENKEEL_RETURN_IF_ERROR(WriteFile(path, bytes));
  context.err << "written to " << path << "\n";
  return kDone;
}

absl::StatusOr<int> Run(const Context& context) {
  if (context.arguments.Has("out") && context.arguments.Has("layers")) {
    return absl::InvalidArgumentError("--out writes all layers; --layers does not go with it");
  }
  v1::GetMapRequest request;
  request.set_group(context.arguments.Get("group"));
  EVENKEEL_ASSIGN_OR_RETURN(const auto layers, context.arguments.GetRanges("layers", 4095));
  request.mutable_layers()->Add(layers.begin(), layers.end());
  v1::GroupMaps maps;
  EVENKEEL_RETURN_IF_ERROR(
      context.client->Explain(context.client->stub().GetMap(context.client->Call().get(), request, &maps), "get map"));
  if (context.arguments.Has("out")) return Write(context, maps);
  if (context.json) {
    context.out << ToJson(maps) << "\n";
    return kDone;
  }
  for (const v1::LayerMapStatus& layer : maps.layers()) ShowLayer(context, layer, maps.shape().slots_per_rank());
  return kDone;
}

}  // namespace

const Command kMapCommand = {
    "map", "where experts live and how their tokens are shared",
    "The maps in force: for each expert its replicas and the part of its tokens that each gets.\n"
    "--json prints evenkeel.v1.GroupMaps.",
    kOptions, Run};

}  // namespace evenkeel::cli
