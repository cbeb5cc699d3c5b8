// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "algos/base/status_macros.h"
#include "cli/command.h"
#include "cli/commands/operation_text.h"
#include "cli/table.h"

namespace evenkeel::cli {

namespace {

namespace v1 = evenkeel::v1;

constexpr Option kOptions[] = {{"group", "G", "one group, with its ranks and layers"}};

std::string EpochText(const v1::Epoch& epoch) { return absl::StrCat(epoch.term(), ".", epoch.number()); }

std::string StateOf(const v1::Group& group) {
  if (group.forming()) return "forming";
  if (!group.static_reason().empty()) return "static";
  return group.running_operation().empty() ? "steady" : "rearranging";
}

std::string GroupTable(const google::protobuf::RepeatedPtrField<v1::Group>& groups) {
  Table table({"GROUP", "STATE", ">RANKS", ">LAYERS", ">EXPERTS", ">SLOTS", ">EPOCH", ">IMBALANCE", ">INITIAL",
               ">TOKENS", ">MOVES", "MODE", "POLICY", "MODEL"});
  for (const v1::Group& group : groups) {
    const v1::Shape& shape = group.info().shape();
    table.AddRow({group.info().name(), StateOf(group), absl::StrCat(shape.num_ranks()),
                  absl::StrCat(group.info().num_layers()), absl::StrCat(shape.num_experts()),
                  absl::StrCat(shape.num_ranks() * shape.slots_per_rank()), EpochText(group.epoch()),
                  ImbalanceText(group.imbalance_now()), ImbalanceText(group.imbalance_initial()),
                  CountText(group.totals().tokens()), CountText(group.totals().moves()), group.mode(), group.policy(),
                  group.info().model()});
  }
  return table.ToString();
}

std::string MemberTable(const v1::Group& group) {
  Table table({">RANK", "AGENT", "ENGINE", ">STEPS", ">QUIESCED", "NOTE"});
  for (const v1::MemberStatus& member : group.members()) {
    std::string note = absl::StrJoin(member.missing_calls(), ", ");
    if (!member.note().empty()) absl::StrAppend(&note, note.empty() ? "" : "; ", member.note());
    table.AddRow({absl::StrCat(member.member().rank()), member.attached() ? "attached" : "away",
                  !member.alive() ? "not seen"
                  : member.idle() ? "idle"
                                  : "serving",
                  CountText(member.num_steps()), EpochText(member.quiesced_epoch()), note});
  }
  return table.ToString();
}

std::string LayerTable(const v1::Group& group) {
  Table table({">LAYER", "PHASE", ">EPOCH", ">IMBALANCE", ">PREDICTED", ">INITIAL", ">LIVE", ">RETIRED", ">WRITING",
               ">FREE", ">CONDEMNED"});
  for (const v1::LayerStatus& layer : group.layers()) {
    table.AddRow({absl::StrCat(layer.layer()), layer.phase(), EpochText(layer.epoch()),
                  ImbalanceText(layer.imbalance_now()), ImbalanceText(layer.imbalance_predicted()),
                  ImbalanceText(layer.imbalance_initial()), absl::StrCat(layer.num_slots_live()),
                  absl::StrCat(layer.num_slots_retired()), absl::StrCat(layer.num_slots_writing()),
                  absl::StrCat(layer.num_slots_free() + layer.num_slots_verified()),
                  absl::StrCat(layer.num_slots_condemned())});
  }
  return table.ToString();
}

// What the slow loop left alone, and why.
std::string PlannedText(const v1::GroupTotals& totals) {
  return absl::StrCat("layers planned ", totals.layers_planned(), ", of these without gain ",
                      totals.layers_without_gain(), "; left out: balanced ", totals.layers_balanced(), ", steady ",
                      totals.layers_steady(), ", resting ", totals.layers_resting(), ", over budget ",
                      totals.layers_over_budget(), "\n");
}

std::string PinsText(const v1::StandingPins& pins) {
  std::string text = absl::StrCat("pinned by ", pins.operation(), ":");
  for (const v1::PlanPin& pin : pins.pins()) {
    absl::StrAppend(&text, " layer ", pin.layer(), " expert ", pin.expert(), " on rank ", pin.rank(), ";");
  }
  if (!pins.frozen_layers().empty()) {
    absl::StrAppend(&text, " layers ", absl::StrJoin(pins.frozen_layers(), ", "), " frozen;");
  }
  return absl::StrCat(text, pins.reason().empty() ? "" : " ", pins.reason(), "\n");
}

absl::StatusOr<int> ShowGroup(const Context& context, const std::string& name) {
  v1::GetGroupRequest request;
  request.set_group(name);
  v1::Group group;
  EVENKEEL_RETURN_IF_ERROR(
      context.client->Explain(context.client->stub().GetGroup(context.client->Call().get(), request, &group),
                              absl::StrCat("get group ", name)));
  if (context.json) {
    context.out << ToJson(group) << "\n";
    return kDone;
  }
  google::protobuf::RepeatedPtrField<v1::Group> one;
  *one.Add() = group;
  context.out << GroupTable(one) << "\n" << MemberTable(group) << "\n" << LayerTable(group);
  context.out << "\n" << PlannedText(group.totals());
  if (!group.static_reason().empty()) context.out << "\nmaps never change: " << group.static_reason() << "\n";
  for (const v1::WaveBlocked& blocked : group.waves_blocked()) {
    context.out << "layer " << blocked.layer() << " waits for rank " << blocked.rank() << ": " << blocked.reason()
                << "\n";
  }
  for (const v1::StandingPins& pins : group.pins()) context.out << PinsText(pins);
  for (const v1::RollbackPoint& point : group.rollback_points()) {
    context.out << "may go back to before " << point.operation() << ", begun at " << TimeText(point.time_unix_us())
                << " at epoch " << EpochText(point.epoch()) << " (" << point.num_layers() << " layers)\n";
  }
  for (const v1::Alert& alert : group.alerts()) context.out << AlertText(alert) << "\n";
  return kDone;
}

absl::StatusOr<int> Run(const Context& context) {
  if (context.arguments.Has("group")) return ShowGroup(context, context.arguments.Get("group"));
  v1::ListGroupsResponse response;
  EVENKEEL_RETURN_IF_ERROR(context.client->Explain(
      context.client->stub().ListGroups(context.client->Call().get(), v1::ListGroupsRequest(), &response),
      "list groups"));
  if (context.json) {
    context.out << ToJson(response) << "\n";
  } else if (response.groups().empty()) {
    context.out << "no group has attached yet\n";
  } else {
    context.out << GroupTable(response.groups());
  }
  return kDone;
}

}  // namespace

const Command kGroupsCommand = {
    "groups", "which groups there are, and how they fare",
    "One line per group. IMBALANCE is the load of the busiest rank over the mean rank (1.0 is perfect), mean over\n"
    "layers, in the last windows; INITIAL what the same tokens would have cost under the default placement.\n"
    "With --group also a line per rank and per layer, how many layers were planned and how many not, by reason\n"
    "('keelctl operations --decisions' tells of each), what waves wait for,\n"
    "what is pinned, operations that 'keelctl map rollback' can undo, and alerts with their times.\n"
    "--json prints evenkeel.v1.ListGroupsResponse, with --group evenkeel.v1.Group.",
    kOptions, Run};

}  // namespace evenkeel::cli
