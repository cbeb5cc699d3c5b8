// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

#include "algos/base/status_macros.h"
#include "cli/command.h"
#include "cli/commands/follow_operation.h"
#include "cli/commands/operation_text.h"
#include "cli/files/map_formats.h"
#include "cli/table.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr Operand kFileOperands[] = {{"FILE", "a map in any of the forms of 'convert'"}};
constexpr Option kGroup = {"group", "G", "which group; may be left out where there is one"};
constexpr Option kLayers = {"layers", "L", "of the file only these, for example 0,3-5 (default: all)"};
constexpr Option kRequestId = {"request-id", "ID", "asking twice with one id starts one rollout"};
constexpr Option kTimeout = {"timeout-s", "S", "stop waiting after S seconds; the rollout goes on (default 3600)"};
constexpr Option kApplyOptions[] = {
    kGroup, kLayers, {"dry-run", "", "plan and price; change nothing"}, kRequestId, kTimeout};
constexpr Option kOperation = {"before", "ID", "go back to before this operation, undoing it and all after it"};
constexpr Option kEpoch = {"epoch", "T.N", "instead: undo all operations that began at this epoch or later"};
constexpr Option kDiffOptions[] = {kGroup,
                                   {"map", "FILE", "a map in any of the forms of 'convert', instead of a rollback"},
                                   kLayers,
                                   kOperation,
                                   kEpoch};
constexpr Option kRollbackOptions[] = {
    kGroup,     kOperation, kEpoch, {"pause", "", "pause the group first, so that the controller leaves it so"},
    kRequestId, kTimeout};

// Some forms of maps do not say of how many ranks they are; the group does.
absl::StatusOr<std::vector<v1::LayerPlacement>> PlacementsFrom(const Context& context, const std::string& path) {
  v1::GetMapRequest asked;
  asked.set_group(context.arguments.Get("group"));
  asked.add_layers(0);
  v1::GroupMaps maps;
  EVENKEEL_RETURN_IF_ERROR(
      context.client->Explain(context.client->stub().GetMap(context.client->Call().get(), asked, &maps), "get map"));
  const MapHints hints{.num_ranks = static_cast<int>(maps.shape().num_ranks()),
                       .num_experts = static_cast<int>(maps.shape().num_experts())};
  EVENKEEL_ASSIGN_OR_RETURN(const MapFile map, ReadMap(path, std::nullopt, hints));
  EVENKEEL_ASSIGN_OR_RETURN(const std::vector<uint32_t> wanted, context.arguments.GetRanges("layers", 4095));
  std::vector<v1::LayerPlacement> placements;
  for (uint32_t layer = 0; layer < map.layers.size(); ++layer) {
    if (!wanted.empty() && !std::ranges::binary_search(wanted, layer)) continue;
    const std::vector<int> slots = SlotsOf(map.layers[layer].placement);
    placements.emplace_back().set_layer(layer);
    placements.back().mutable_expert_of_slot()->Add(slots.begin(), slots.end());
  }
  if (!wanted.empty() && placements.size() != wanted.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--layers: ", path, " has layers 0 to ", map.layers.size() - 1, " alone"));
  }
  return placements;
}

// Of RollbackRequest and DiffRequest.
template <typename Request>
absl::Status FillTarget(const Arguments& arguments, Request& request) {
  request.set_operation(arguments.Get("before"));
  if (!arguments.Has("epoch")) return absl::OkStatus();
  const std::vector<std::string> parts = absl::StrSplit(arguments.Get("epoch"), '.');
  uint32_t term = 0, number = 0;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &term) || !absl::SimpleAtoi(parts[1], &number)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--epoch is ", arguments.Get("epoch"), ": TERM.NUMBER wanted, as 'keelctl groups' shows it"));
  }
  request.mutable_epoch()->set_term(term);
  request.mutable_epoch()->set_number(number);
  return absl::OkStatus();
}

int Conclude(const Context& context, const v1::Operation& operation) {
  context.out << (context.json ? ToJson(operation) + "\n" : ResultText(operation));
  if (!context.json && operation.dry_run()) context.out << DecisionsText(operation);
  return operation.state() == v1::OPERATION_STATE_DONE ? kDone : kProblem;
}

absl::StatusOr<int> RunApply(const Context& context) {
  v1::SetMapRequest request;
  request.set_group(context.arguments.Get("group"));
  request.set_request_id(context.arguments.Get("request-id"));
  request.set_dry_run(context.arguments.Has("dry-run"));
  EVENKEEL_ASSIGN_OR_RETURN(const auto layers, PlacementsFrom(context, context.arguments.Get("FILE")));
  request.mutable_layers()->Add(layers.begin(), layers.end());
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t timeout_s, context.arguments.GetInteger("timeout-s", 3600, 1, 604'800));
  const auto call = context.client->Call(absl::Seconds(timeout_s));
  const auto reader = context.client->stub().SetMap(call.get(), request);
  EVENKEEL_ASSIGN_OR_RETURN(const v1::Operation operation, FollowOperation(context, *reader, "set map"));
  return Conclude(context, operation);
}

absl::StatusOr<int> RunRollback(const Context& context) {
  v1::RollbackRequest request;
  request.set_group(context.arguments.Get("group"));
  request.set_request_id(context.arguments.Get("request-id"));
  EVENKEEL_RETURN_IF_ERROR(FillTarget(context.arguments, request));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t timeout_s, context.arguments.GetInteger("timeout-s", 3600, 1, 604'800));
  if (context.arguments.Has("pause")) {
    v1::PauseRequest pause;
    pause.set_group(request.group());
    pause.set_reason("rolled back");
    v1::Operation paused;
    EVENKEEL_RETURN_IF_ERROR(
        context.client->Explain(context.client->stub().Pause(context.client->Call().get(), pause, &paused), "pause"));
    context.err << "group " << paused.group() << " is paused; 'keelctl resume' ends it\n";
  }
  const auto call = context.client->Call(absl::Seconds(timeout_s));
  const auto reader = context.client->stub().Rollback(call.get(), request);
  EVENKEEL_ASSIGN_OR_RETURN(const v1::Operation operation, FollowOperation(context, *reader, "roll back"));
  return Conclude(context, operation);
}

absl::StatusOr<int> RunDiff(const Context& context) {
  v1::DiffRequest request;
  request.set_group(context.arguments.Get("group"));
  EVENKEEL_RETURN_IF_ERROR(FillTarget(context.arguments, request));
  if (context.arguments.Has("map")) {
    EVENKEEL_ASSIGN_OR_RETURN(const auto layers, PlacementsFrom(context, context.arguments.Get("map")));
    request.mutable_layers()->Add(layers.begin(), layers.end());
  }
  v1::MapDiff diff;
  EVENKEEL_RETURN_IF_ERROR(
      context.client->Explain(context.client->stub().Diff(context.client->Call().get(), request, &diff), "diff"));
  if (context.json) {
    context.out << ToJson(diff) << "\n";
    return kDone;
  }
  context.out << absl::StrFormat("group %s at epoch %d.%d: %d moves in %d layers, %s; imbalance %s now, %s then\n",
                                 diff.group(), diff.epoch().term(), diff.epoch().number(), diff.num_moves(),
                                 diff.layers_size(), BytesText(diff.bytes()), ImbalanceText(diff.imbalance_before()),
                                 ImbalanceText(diff.imbalance_after()));
  Table table({">LAYER", ">MOVES", ">BYTES", ">NOW", ">THEN", "RANKS GET EXPERTS"});
  for (const v1::LayerDiff& layer : diff.layers()) {
    std::string received = layer.conflict();
    for (int i = 0; i < std::min(layer.received_size(), 6) && layer.conflict().empty(); ++i) {
      absl::StrAppend(&received, i == 0 ? "" : "  ", layer.received(i).rank(), " gets ", layer.received(i).expert());
    }
    if (layer.received_size() > 6 && layer.conflict().empty()) absl::StrAppend(&received, "  ... (--json)");
    table.AddRow({absl::StrCat(layer.layer()), absl::StrCat(layer.received_size()), BytesText(layer.bytes()),
                  ImbalanceText(layer.imbalance_before()), ImbalanceText(layer.imbalance_after()), received});
  }
  context.out << table.ToString();
  return kDone;
}

}  // namespace

const Command kMapApplyCommand = {
    "map apply",
    "put a group, or some layers, on the placements of a map file",
    "Carried out like every rearrangement, while the group serves. The controller plans on from there by itself, "
    "unless\n"
    "the group is paused, in a mode that plans nothing, or the layers are frozen ('keelctl map pin').\n"
    "--json prints the last evenkeel.v1.Operation.",
    kApplyOptions,
    RunApply,
    kFileOperands};

const Command kMapDiffCommand = {"map diff", "what a map, or a rollback, would move",
                                 "From what the layers hold now to a map file, or to what they held before an "
                                 "operation (default: the newest). Changes\n"
                                 "nothing. NOW and THEN are imbalances with shares solved for the load counted last. "
                                 "--json prints evenkeel.v1.MapDiff.",
                                 kDiffOptions, RunDiff};

const Command kMapRollbackCommand = {
    "map rollback", "put the layers back on what they held before",
    "Undoes the newest operation that moved experts, or a named one and all after it, by a rollout like any other; a\n"
    "rollback is undone by another. The controller knows the last 64 of its life; 'keelctl groups --group' lists "
    "them.\n"
    "It plans on from there by itself: --pause has it leave the group so. --json prints the last "
    "evenkeel.v1.Operation.",
    kRollbackOptions, RunRollback};

}  // namespace evenkeel::cli
