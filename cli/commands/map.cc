// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"

#include "algos/base/ids.h"
#include "algos/base/status_macros.h"
#include "algos/dispatch/rank_tables.h"
#include "algos/layer_map.h"
#include "algos/placement.h"
#include "algos/policy.h"
#include "cli/command.h"
#include "cli/files/file.h"
#include "cli/files/map_formats.h"
#include "cli/table.h"
#include "proto/convert_common.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr double kPositions = 4294967296.0;  // 2^32 (LayerMap)
constexpr Option kOptions[] = {
    {"group", "G", "which group; may be left out where there is one"},
    {"layers", "L", "for example 0,3-5 (default: all)"},
    {"out", "FILE", "write the maps of all layers in force to a file, instead of showing them"},
    {"format", "F", "of --out: evenkeel|expert_map|sglang|trtllm (default evenkeel)"},
    {"rank", "R", "instead of shares the one slot of each expert that rank R is to send to (static dispatch)"},
    {"prefer", "P", "with --rank: near (on the rank, then on its host), remote (on other ranks) or any (default)"},
    {"avoid", "LIST", "with --rank: replicas on these ranks are used only where there are no others"},
    {"hosts", "H,H,...", "with --rank: the host of each rank, by number (default: each has its own)"},
    {"seed", "N", "with --rank: breaks ties (default 42)"},
};

constexpr Operand kSaveOperands[] = {{"FILE", "to write"}};
constexpr Option kSaveOptions[] = {
    {"group", "G", "which group; may be left out where there is one"},
    {"format", "F", "evenkeel|expert_map|sglang|trtllm (default evenkeel)"},
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

algos::Shape ShapeOf(const v1::GroupMaps& maps) {
  return {.num_experts = static_cast<int>(maps.shape().num_experts()),
          .num_ranks = static_cast<int>(maps.shape().num_ranks()),
          .slots_per_rank = static_cast<int>(maps.shape().slots_per_rank())};
}

absl::StatusOr<int> Write(const Context& context, const v1::GroupMaps& maps, const std::string& path) {
  EVENKEEL_ASSIGN_OR_RETURN(const MapFormat format, FindMapFormat(context.arguments.Get("format", "evenkeel")));
  MapFile file{.shape = ShapeOf(maps)};
  for (const v1::LayerMapStatus& layer : maps.layers()) file.layers.push_back(PlanOf(layer.map(), file.shape));
  EVENKEEL_ASSIGN_OR_RETURN(const std::string bytes, RenderMap(file, format));
  EVENKEEL_RETURN_IF_ERROR(WriteFile(path, bytes));
  context.err << "written to " << path << "\n";
  return kDone;
}

struct RankTable {
  int rank = 0;
  algos::StaticRule rule = algos::StaticRule::kAny;
  algos::Surroundings around;
  uint64_t seed = 42;
};

absl::StatusOr<algos::StaticRule> RuleFrom(const std::string& name) {
  if (name == "any") return algos::StaticRule::kAny;
  if (name == "near") return algos::StaticRule::kNear;
  if (name == "remote") return algos::StaticRule::kRemote;
  return absl::InvalidArgumentError(absl::StrCat("--prefer is ", name, ": near, remote or any"));
}

absl::StatusOr<RankTable> TableFrom(const Arguments& arguments, const algos::Shape& shape) {
  RankTable table;
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t rank, arguments.GetInteger("rank", 0, 0, shape.num_ranks - 1));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t seed, arguments.GetInteger("seed", 42, 0, INT64_MAX));
  EVENKEEL_ASSIGN_OR_RETURN(table.rule, RuleFrom(arguments.Get("prefer", "any")));
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<uint32_t> avoided,
                            arguments.GetRanges("avoid", static_cast<uint32_t>(shape.num_ranks - 1)));
  table.rank = static_cast<int>(rank);
  table.seed = static_cast<uint64_t>(seed);
  table.around.avoided.resize(static_cast<size_t>(shape.num_ranks), 0);
  for (const uint32_t one : avoided) table.around.avoided[one] = 1;
  if (!arguments.Has("hosts")) return table;
  for (const absl::string_view word : absl::StrSplit(arguments.Get("hosts"), ',')) {
    int32_t host = 0;
    if (!absl::SimpleAtoi(word, &host)) {
      return absl::InvalidArgumentError(absl::StrCat("--hosts: '", word, "' is no number"));
    }
    table.around.hosts.push_back(host);
  }
  if (table.around.hosts.size() != static_cast<size_t>(shape.num_ranks)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--hosts: ", table.around.hosts.size(), " for ", shape.num_ranks, " ranks"));
  }
  return table;
}

// What a rank sends where it sends all tokens of an expert to one replica.
absl::StatusOr<int> ShowTable(const Context& context, const v1::GroupMaps& maps) {
  const algos::Shape shape = ShapeOf(maps);
  EVENKEEL_ASSIGN_OR_RETURN(const RankTable wanted, TableFrom(context.arguments, shape));
  nlohmann::ordered_json json = {{"group", maps.group()}, {"rank", wanted.rank}};
  json["layers"] = nlohmann::ordered_json::array();
  const size_t num_experts = static_cast<size_t>(shape.num_experts);
  for (const v1::LayerMapStatus& layer : maps.layers()) {
    EVENKEEL_ASSIGN_OR_RETURN(const algos::LayerMap map, proto::FromProto("map", layer.map(), shape));
    const std::vector<int32_t> all = StaticTablesOf(map, shape, LayerId(static_cast<int32_t>(layer.layer())),
                                                    wanted.rule, wanted.around, wanted.seed);
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(wanted.rank) * num_experts);
    const std::vector<int32_t> slots(first, first + static_cast<std::ptrdiff_t>(num_experts));
    json["layers"].push_back({{"layer", layer.layer()}, {"slots", slots}});
    if (context.json) continue;
    Table table({">EXPERT", ">SLOT", ">OF RANK"});
    for (size_t e = 0; e < num_experts; ++e) {
      const bool lives = slots[e] >= 0;
      table.AddRow({absl::StrCat(e), lives ? absl::StrCat(slots[e]) : "-",
                    lives ? absl::StrCat(slots[e] / shape.slots_per_rank) : "no live replica"});
    }
    context.out << "layer " << layer.layer() << ", for rank " << wanted.rank << "\n" << table.ToString() << "\n";
  }
  if (context.json) context.out << json.dump() << "\n";
  return kDone;
}

absl::StatusOr<int> Run(const Context& context) {
  if (context.arguments.Has("out") && context.arguments.Has("layers")) {
    return absl::InvalidArgumentError("--out writes all layers; --layers does not go with it");
  }
  for (const char* of_rank : {"prefer", "avoid", "hosts", "seed", "out"}) {
    const bool is_out = absl::string_view(of_rank) == "out";
    if (context.arguments.Has(of_rank) && context.arguments.Has("rank") == is_out) {
      return absl::InvalidArgumentError(absl::StrCat("--", of_rank, is_out ? " does not go" : " goes", " with --rank"));
    }
  }
  v1::GetMapRequest request;
  request.set_group(context.arguments.Get("group"));
  EVENKEEL_ASSIGN_OR_RETURN(const auto layers, context.arguments.GetRanges("layers", 4095));
  request.mutable_layers()->Add(layers.begin(), layers.end());
  v1::GroupMaps maps;
  EVENKEEL_RETURN_IF_ERROR(
      context.client->Explain(context.client->stub().GetMap(context.client->Call().get(), request, &maps), "get map"));
  if (context.arguments.Has("out")) return Write(context, maps, context.arguments.Get("out"));
  if (context.arguments.Has("rank")) return ShowTable(context, maps);
  if (context.json) {
    context.out << ToJson(maps) << "\n";
    return kDone;
  }
  for (const v1::LayerMapStatus& layer : maps.layers()) ShowLayer(context, layer, maps.shape().slots_per_rank());
  return kDone;
}

absl::StatusOr<int> RunSave(const Context& context) {
  v1::GetMapRequest request;
  request.set_group(context.arguments.Get("group"));
  v1::GroupMaps maps;
  EVENKEEL_RETURN_IF_ERROR(
      context.client->Explain(context.client->stub().GetMap(context.client->Call().get(), request, &maps), "get map"));
  return Write(context, maps, context.arguments.Get("FILE"));
}

}  // namespace

const Command kMapSaveCommand = {
    "map save",
    "write the maps in force to a file",
    "All layers, in any form of 'convert'; 'keelctl map apply' puts a group on them again.",
    kSaveOptions,
    RunSave,
    kSaveOperands};

const Command kMapCommand = {
    "map", "where experts live and how their tokens are shared",
    "The maps in force: for each expert its replicas and the part of its tokens that each gets.\n"
    "--json prints evenkeel.v1.GroupMaps. With --rank: where that rank sends all tokens of an expert to one replica, "
    "such that\n"
    "ranks that ask alike share the replicas out among themselves; --json prints the slots of each layer's experts.",
    kOptions, Run};

}  // namespace evenkeel::cli
