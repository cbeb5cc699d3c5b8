// SPDX-License-Identifier: Apache-2.0
#include "proto/convert_controller.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include "algos/base/status_macros.h"
#include "proto/convert_common.h"
#include "proto/convert_endpoint.h"
#include "proto/evenkeel/v1/agent.pb.h"

namespace evenkeel::proto {
namespace {

constexpr uint64_t kSourcesMax = 4096;
constexpr uint64_t kDayMs = 86'400'000;

absl::StatusOr<ControllerMessage> ToValue(const v1::Welcome& message) {
  if (message.term() == 0) return Bad("welcome.term", 0, "a term");
  if (!message.has_settings()) return Missing("welcome.settings");
  const v1::AgentSettings& settings = message.settings();
  EVENKEEL_RETURN_IF_ERROR(CheckRange("welcome.settings.report_interval_ms", settings.report_interval_ms(), 1, kDayMs));
  EVENKEEL_RETURN_IF_ERROR(
      CheckRange("welcome.settings.concurrent_moves_max", settings.concurrent_moves_max(), 1, 65536));
  EVENKEEL_RETURN_IF_ERROR(
      CheckRange("welcome.settings.attempts_per_source", settings.attempts_per_source(), 1, 65536));
  EVENKEEL_RETURN_IF_ERROR(CheckRange("welcome.settings.scrub_interval_ms", settings.scrub_interval_ms(), 0, kDayMs));
  EVENKEEL_RETURN_IF_ERROR(
      CheckText("welcome.settings.transport", settings.transport(), kNameBytesMax, Text::kMayBeEmpty));
  EVENKEEL_RETURN_IF_ERROR(CheckRange("welcome.settings.pool_bytes", settings.pool_bytes(), 0, kBytesMax));
  EVENKEEL_RETURN_IF_ERROR(CheckText("welcome.settings.snapshot_directory", settings.snapshot_directory(),
                                     kTextBytesMax, Text::kMayBeEmpty));
  if (settings.has_reconnect_max_ms()) {
    EVENKEEL_RETURN_IF_ERROR(CheckRange("welcome.settings.reconnect_max_ms", settings.reconnect_max_ms(), 0, kDayMs));
  }
  return Welcome{
      .term = message.term(),
      .settings = {.report_interval = absl::Milliseconds(settings.report_interval_ms()),
                   .bytes_per_second_max = settings.bytes_per_second_max(),
                   .concurrent_moves_max = static_cast<int>(settings.concurrent_moves_max()),
                   .attempts_per_source = static_cast<int>(settings.attempts_per_source()),
                   .transport = settings.transport(),
                   .scrub_interval = absl::Milliseconds(settings.scrub_interval_ms()),
                   .reconnect_max = settings.has_reconnect_max_ms() ? absl::Milliseconds(settings.reconnect_max_ms())
                                                                    : AgentSettings().reconnect_max,
                   .pool_bytes = settings.pool_bytes(),
                   .snapshot_directory = settings.snapshot_directory(),
                   .store_bytes_per_second = settings.store_bytes_per_second()}};
}

absl::StatusOr<ControllerMessage> ToValue(const v1::MapsUpdate& message, const GroupInfo& group) {
  if (!message.has_epoch()) return Missing("maps_update.epoch");
  if (!message.has_base_epoch()) return Missing("maps_update.base_epoch");
  EVENKEEL_RETURN_IF_ERROR(CheckRange("the length of maps_update.layers", static_cast<uint64_t>(message.layers_size()),
                                      0, static_cast<uint64_t>(group.num_layers)));
  MapsUpdate update{.epoch = FromProto(message.epoch()),
                    .view_number = message.view_number(),
                    .base_epoch = FromProto(message.base_epoch()),
                    .maps_digest = message.maps_digest(),
                    .layers = {}};
  for (int i = 0; i < message.layers_size(); ++i) {
    const std::string field = absl::StrCat("maps_update.layers[", i, "]");
    EVENKEEL_ASSIGN_OR_RETURN(const LayerId layer,
                              ToLayer(absl::StrCat(field, ".layer"), message.layers(i).layer(), group));
    if (!update.layers.empty() && layer <= update.layers.back().first) {
      return Bad(absl::StrCat(field, ".layer"), layer.value(),
                 absl::StrCat("a layer above ", update.layers.back().first.value()));
    }
    EVENKEEL_ASSIGN_OR_RETURN(algos::LayerMap map,
                              FromProto(absl::StrCat(field, ".map"), message.layers(i).map(), group.shape));
    update.layers.emplace_back(layer, std::move(map));
  }
  if (update.base_epoch > update.epoch) {
    return Bad("maps_update.base_epoch", update.base_epoch.ToString(),
               absl::StrCat("at most epoch, ", update.epoch.ToString(), ","));
  }
  if (update.base_epoch == update.epoch && message.layers_size() != group.num_layers) {
    return Bad("the length of maps_update.layers", message.layers_size(),
               absl::StrCat("all ", group.num_layers, " layers, as base_epoch is epoch,"));
  }
  return update;
}

constexpr uint64_t kPassBytesMax = 64;

absl::StatusOr<MoveSource> ToSource(absl::string_view field, const v1::MoveSource& message, const GroupInfo& group) {
  MoveSource source;
  EVENKEEL_ASSIGN_OR_RETURN(source.endpoint, FromProto(absl::StrCat(field, ".endpoint"), message.endpoint()));
  EVENKEEL_RETURN_IF_ERROR(
      CheckRange(absl::StrCat("the length of ", field, ".pass"), message.pass().size(), 0, kPassBytesMax));
  source.pass = message.pass();
  if (!message.has_member()) return source;
  EVENKEEL_ASSIGN_OR_RETURN(source.member, FromProto(absl::StrCat(field, ".member"), message.member(), group));
  EVENKEEL_ASSIGN_OR_RETURN(source.slot, ToSlot(absl::StrCat(field, ".slot"), message.slot(), group));
  source.generation = message.generation();
  return source;
}

absl::StatusOr<ControllerMessage> ToValue(const v1::MoveOrder& message, const GroupInfo& group) {
  MoveOrder order;
  EVENKEEL_ASSIGN_OR_RETURN(order.layer, ToLayer("move_order.layer", message.layer(), group));
  EVENKEEL_ASSIGN_OR_RETURN(order.expert, ToExpert("move_order.expert", message.expert(), group));
  EVENKEEL_ASSIGN_OR_RETURN(order.slot, ToSlot("move_order.slot", message.slot(), group));
  EVENKEEL_RETURN_IF_ERROR(
      CheckRange("the length of move_order.sources", static_cast<uint64_t>(message.sources_size()), 1, kSourcesMax));
  EVENKEEL_RETURN_IF_ERROR(CheckRange("move_order.deadline_ms", message.deadline_ms(), 1, kDayMs));
  if (!message.has_retired_since()) return Missing("move_order.retired_since");
  for (int i = 0; i < message.sources_size(); ++i) {
    EVENKEEL_ASSIGN_OR_RETURN(MoveSource source,
                              ToSource(absl::StrCat("move_order.sources[", i, "]"), message.sources(i), group));
    order.sources.push_back(std::move(source));
  }
  order.move_id = message.move_id();
  order.generation = message.generation();
  order.fingerprint = message.fingerprint();
  order.retired_since = FromProto(message.retired_since());
  order.deadline = absl::Milliseconds(message.deadline_ms());
  return order;
}

absl::StatusOr<ControllerMessage> ToValue(const v1::CancelMove& message, const GroupInfo& group) {
  CancelMove cancel;
  EVENKEEL_ASSIGN_OR_RETURN(cancel.layer, ToLayer("cancel_move.layer", message.layer(), group));
  EVENKEEL_ASSIGN_OR_RETURN(cancel.slot, ToSlot("cancel_move.slot", message.slot(), group));
  cancel.move_id = message.move_id();
  cancel.generation = message.generation();
  return cancel;
}

void Render(const Welcome& value, v1::ControllerMessage* out) {
  v1::Welcome* message = out->mutable_welcome();
  message->set_term(value.term);
  v1::AgentSettings* settings = message->mutable_settings();
  settings->set_report_interval_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(value.settings.report_interval)));
  settings->set_bytes_per_second_max(value.settings.bytes_per_second_max);
  settings->set_concurrent_moves_max(static_cast<uint32_t>(value.settings.concurrent_moves_max));
  settings->set_attempts_per_source(static_cast<uint32_t>(value.settings.attempts_per_source));
  settings->set_transport(value.settings.transport);
  settings->set_scrub_interval_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(value.settings.scrub_interval)));
  settings->set_pool_bytes(value.settings.pool_bytes);
  settings->set_snapshot_directory(value.settings.snapshot_directory);
  settings->set_store_bytes_per_second(value.settings.store_bytes_per_second);
  settings->set_reconnect_max_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(value.settings.reconnect_max)));
}

void Render(const ViewUpdate& value, v1::ControllerMessage* out) {
  ToProto(value.view, out->mutable_view_update()->mutable_view());
}

void Render(const MapsUpdate& value, v1::ControllerMessage* out) {
  v1::MapsUpdate* message = out->mutable_maps_update();
  ToProto(value.epoch, message->mutable_epoch());
  message->set_view_number(value.view_number);
  ToProto(value.base_epoch, message->mutable_base_epoch());
  message->set_maps_digest(value.maps_digest);
  for (const auto& [layer, map] : value.layers) {
    v1::NumberedLayerMap* numbered = message->add_layers();
    numbered->set_layer(static_cast<uint32_t>(layer.value()));
    ToProto(map, numbered->mutable_map());
  }
}

void Render(const MoveOrder& value, v1::ControllerMessage* out) {
  v1::MoveOrder* message = out->mutable_move_order();
  message->set_move_id(value.move_id);
  message->set_layer(static_cast<uint32_t>(value.layer.value()));
  message->set_expert(static_cast<uint32_t>(value.expert.value()));
  message->set_slot(static_cast<uint32_t>(value.slot.value()));
  message->set_generation(value.generation);
  message->set_fingerprint(value.fingerprint);
  ToProto(value.retired_since, message->mutable_retired_since());
  for (const MoveSource& source : value.sources) {
    v1::MoveSource* out_source = message->add_sources();
    ToProto(source.endpoint, out_source->mutable_endpoint());
    out_source->mutable_endpoint()->clear_secret();  // readers get passes
    out_source->set_pass(source.pass);
    if (!source.member.rank.valid()) continue;
    ToProto(source.member, out_source->mutable_member());
    out_source->set_slot(static_cast<uint32_t>(source.slot.value()));
    out_source->set_generation(source.generation);
  }
  message->set_deadline_ms(static_cast<uint32_t>(std::max<int64_t>(absl::ToInt64Milliseconds(value.deadline), 1)));
}

void Render(const CancelMove& value, v1::ControllerMessage* out) {
  v1::CancelMove* message = out->mutable_cancel_move();
  message->set_move_id(value.move_id);
  message->set_layer(static_cast<uint32_t>(value.layer.value()));
  message->set_slot(static_cast<uint32_t>(value.slot.value()));
  message->set_generation(value.generation);
}

void Render(const SlotsReleased&, v1::ControllerMessage* out) { out->mutable_slots_released(); }

void Render(const Refused& value, v1::ControllerMessage* out) {
  ToProto(value.status, out->mutable_refused()->mutable_error());
}

}  // namespace

absl::StatusOr<ControllerMessage> FromProto(const v1::ControllerMessage& message, const GroupInfo& group) {
  switch (message.message_case()) {
    case v1::ControllerMessage::kWelcome:
      return ToValue(message.welcome());
    case v1::ControllerMessage::kViewUpdate: {
      EVENKEEL_ASSIGN_OR_RETURN(View view, FromProto("view_update.view", message.view_update().view(), group));
      return ViewUpdate{.view = std::move(view)};
    }
    case v1::ControllerMessage::kMapsUpdate:
      return ToValue(message.maps_update(), group);
    case v1::ControllerMessage::kMoveOrder:
      return ToValue(message.move_order(), group);
    case v1::ControllerMessage::kCancelMove:
      return ToValue(message.cancel_move(), group);
    case v1::ControllerMessage::kSlotsReleased:
      return SlotsReleased{};
    case v1::ControllerMessage::kRefused:
      EVENKEEL_RETURN_IF_ERROR(CheckError("refused.error", message.refused().error()));
      return Refused{.status = StatusOf(message.refused().error())};
    case v1::ControllerMessage::MESSAGE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("the message holds nothing that this agent knows");
}

void ToProto(const ControllerMessage& value, v1::ControllerMessage* message) {
  message->Clear();
  std::visit([message](const auto& alternative) { Render(alternative, message); }, value);
}

}  // namespace evenkeel::proto
