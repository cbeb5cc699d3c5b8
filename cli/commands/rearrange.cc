// SPDX-License-Identifier: Apache-2.0
#include <optional>
#include <vector>

#include "algos/base/status_macros.h"
#include "cli/command.h"
#include "cli/commands/follow_operation.h"
#include "cli/commands/operation_text.h"
#include "cli/files/map_formats.h"
#include "cli/problem_options.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr Option kOptions[] = {
    {"group", "G", "which group; may be left out where there is one"},
    {"policy", "P", "instead of the group's own: deepseek, greedy, ..."},
    {"policy-config", "K=V,...", "options of the policy, over those configured for it"},
    {"map", "FILE", "of policy static: the map whose placements the layers are to have; any of the forms of 'convert'"},
    {"layers", "L", "only these, for example 0,3-5 (default: all)"},
    {"dry-run", "", "plan and price, and tell of each layer; change nothing"},
    {"request-id", "ID", "asking twice with one id starts one rearrangement"},
    {"timeout-s", "S", "stop waiting after S seconds; the rearrangement goes on (default 3600)"},
};

absl::StatusOr<v1::RearrangeRequest> MakeRequest(const Arguments& arguments) {
  v1::RearrangeRequest request;
  request.set_group(arguments.Get("group"));
  request.set_request_id(arguments.Get("request-id"));
  request.set_policy(arguments.Get("policy"));
  EVENKEEL_ASSIGN_OR_RETURN(const algos::PolicyConfig config, PolicyConfigFrom(arguments));
  request.mutable_policy_options()->insert(config.options.begin(), config.options.end());
  request.set_dry_run(arguments.Has("dry-run"));
  EVENKEEL_ASSIGN_OR_RETURN(const auto layers, arguments.GetRanges("layers", 4095));
  request.mutable_layers()->Add(layers.begin(), layers.end());
  return request;
}

// Some forms of maps do not say of how many ranks they are; the group does.
absl::Status AddPlacements(const Context& context, v1::RearrangeRequest& request) {
  if (!context.arguments.Has("map")) return absl::OkStatus();
  v1::GetMapRequest asked;
  asked.set_group(request.group());
  v1::GroupMaps maps;
  EVENKEEL_RETURN_IF_ERROR(
      context.client->Explain(context.client->stub().GetMap(context.client->Call().get(), asked, &maps), "get map"));
  const MapHints hints{.num_ranks = static_cast<int>(maps.shape().num_ranks()),
                       .num_experts = static_cast<int>(maps.shape().num_experts())};
  EVENKEEL_ASSIGN_OR_RETURN(const MapFile map, ReadMap(context.arguments.Get("map"), std::nullopt, hints));
  for (const algos::LayerPlan& layer : map.layers) {
    const std::vector<int> slots = SlotsOf(layer.placement);
    request.add_placements()->mutable_expert_of_slot()->Add(slots.begin(), slots.end());
  }
  return absl::OkStatus();
}

absl::StatusOr<int> Run(const Context& context) {
  EVENKEEL_ASSIGN_OR_RETURN(v1::RearrangeRequest request, MakeRequest(context.arguments));
  EVENKEEL_RETURN_IF_ERROR(AddPlacements(context, request));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t timeout_s, context.arguments.GetInteger("timeout-s", 3600, 1, 604'800));
  const auto call = context.client->Call(absl::Seconds(timeout_s));
  const auto reader = context.client->stub().Rearrange(call.get(), request);
  EVENKEEL_ASSIGN_OR_RETURN(const v1::Operation operation, FollowOperation(context, *reader, "rearrange"));
  context.out << (context.json ? ToJson(operation) + "\n" : ResultText(operation));
  if (!context.json && operation.dry_run()) context.out << DecisionsText(operation);
  return operation.state() == v1::OPERATION_STATE_DONE || operation.state() == v1::OPERATION_STATE_SKIPPED ? kDone
                                                                                                           : kProblem;
}

}  // namespace

const Command kRearrangeCommand = {
    "rearrange", "have experts placed anew, live",
    "Plans a placement on the recent load and carries it out while the group serves; shows progress until it ends.\n"
    "Policy static takes the placements of --map over as they are, and the group keeps them while that is its policy.\n"
    "Interrupting keelctl does not stop it: 'keelctl operations' shows how it goes on. Exit status 0 if it was done\n"
    "or found unnecessary, 1 if it failed or was overtaken.\n"
    "--json prints the last evenkeel.v1.Operation.",
    kOptions, Run};

}  // namespace evenkeel::cli
