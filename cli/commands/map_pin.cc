// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "algos/base/status_macros.h"
#include "cli/command.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr Option kGroup = {"group", "G", "which group; may be left out where there is one"};
constexpr Option kPinOptions[] = {
    kGroup,
    {"experts", "L:E@R,...", "expert E of layer L is to be on rank R, whatever the load"},
    {"layers", "L", "freeze these layers as they are, for example 0,3-5"},
    {"reason", "TEXT", "why, for those who look at it later"},
    {"request-id", "ID", "asking twice with one id pins once"},
};
constexpr Option kUnpinOptions[] = {
    kGroup, {"id", "ID,...", "what 'map pin' told, and 'keelctl groups --group' lists"}, {"all", "", "every one"}};

absl::Status AddPin(absl::string_view word, v1::PinRequest& request) {
  const std::vector<absl::string_view> layer_rest = absl::StrSplit(word, ':');
  const std::vector<absl::string_view> expert_rank =
      layer_rest.size() == 2 ? std::vector<absl::string_view>(absl::StrSplit(layer_rest[1], '@'))
                             : std::vector<absl::string_view>();
  uint32_t layer = 0, expert = 0, rank = 0;
  if (expert_rank.size() != 2 || !absl::SimpleAtoi(layer_rest[0], &layer) ||
      !absl::SimpleAtoi(expert_rank[0], &expert) || !absl::SimpleAtoi(expert_rank[1], &rank)) {
    return absl::InvalidArgumentError(absl::StrCat("--experts: '", word, "': LAYER:EXPERT@RANK wanted"));
  }
  v1::PlanPin* pin = request.add_pins();
  pin->set_layer(layer);
  pin->set_expert(expert);
  pin->set_rank(rank);
  return absl::OkStatus();
}

absl::StatusOr<int> RunPin(const Context& context) {
  v1::PinRequest request;
  request.set_group(context.arguments.Get("group"));
  request.set_reason(context.arguments.Get("reason"));
  request.set_request_id(context.arguments.Get("request-id"));
  if (context.arguments.Has("experts")) {
    const std::string words = context.arguments.Get("experts");
    for (const absl::string_view word : absl::StrSplit(words, ',')) EVENKEEL_RETURN_IF_ERROR(AddPin(word, request));
  }
  EVENKEEL_ASSIGN_OR_RETURN(const auto frozen, context.arguments.GetRanges("layers", 4095));
  request.mutable_frozen_layers()->Add(frozen.begin(), frozen.end());
  v1::Operation operation;
  EVENKEEL_RETURN_IF_ERROR(
      context.client->Explain(context.client->stub().Pin(context.client->Call().get(), request, &operation), "pin"));
  if (context.json) {
    context.out << ToJson(operation) << "\n";
  } else {
    context.out << "group " << operation.group() << ": " << operation.pins_size() << " experts pinned, "
                << operation.frozen_layers_size() << " layers frozen; 'keelctl map unpin --id=" << operation.id()
                << "' ends it\n";
  }
  return kDone;
}

absl::StatusOr<int> RunUnpin(const Context& context) {
  v1::UnpinRequest request;
  request.set_group(context.arguments.Get("group"));
  request.set_all(context.arguments.Has("all"));
  if (context.arguments.Has("id")) {
    for (const absl::string_view id : absl::StrSplit(context.arguments.Get("id"), ',')) {
      request.add_ids(std::string(id));
    }
  }
  v1::UnpinResponse response;
  EVENKEEL_RETURN_IF_ERROR(
      context.client->Explain(context.client->stub().Unpin(context.client->Call().get(), request, &response), "unpin"));
  if (context.json) {
    context.out << ToJson(response) << "\n";
    return kDone;
  }
  for (const v1::Operation& operation : response.operations()) context.out << operation.id() << " is ended\n";
  if (response.operations().empty()) context.out << "nothing is pinned\n";
  return kDone;
}

}  // namespace

const Command kMapPinCommand = {
    "map pin", "fix experts on ranks, or whole layers as they are",
    "Plans of all kinds obey it until 'keelctl map unpin'; the controller's end does not end it. In mode full the "
    "experts\n"
    "are brought to their ranks at once, in the others by the next rearrangement. Which of a rank's slots an expert is "
    "in\n"
    "means nothing, and is not fixed. Frozen layers keep their shares too; ranks that come, go or are lost go before\n"
    "them. --json prints evenkeel.v1.Operation.",
    kPinOptions, RunPin};

const Command kMapUnpinCommand = {"map unpin", "end what 'map pin' fixed",
                                  "Experts stay where they are until a plan moves them. --json prints\n"
                                  "evenkeel.v1.UnpinResponse.",
                                  kUnpinOptions, RunUnpin};

}  // namespace evenkeel::cli
