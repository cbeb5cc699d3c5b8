// SPDX-License-Identifier: Apache-2.0
#include "proto/convert_agent.h"

#include <string>
#include <utility>

#include "algos/base/status_macros.h"
#include "proto/convert_common.h"
#include "proto/convert_endpoint.h"
#include "proto/evenkeel/v1/agent.pb.h"

namespace evenkeel::proto {
namespace {

constexpr double kStepsPerSecondMax = 1e9;
constexpr uint64_t kMismatchesMax = 1000000;  // of one move

constexpr uint64_t kEndpointsMax = 16;

absl::Status CheckLength(absl::string_view list, int length, uint64_t wanted) {
  return CheckRange(absl::StrCat("the length of ", list), static_cast<uint64_t>(length), wanted, wanted);
}

absl::StatusOr<SlotRecord> ToRecord(const v1::SlotInventory& slots, int i, const GroupInfo& group) {
  const auto field = [i](absl::string_view list) { return absl::StrCat("attach.slots.", list, "[", i, "]"); };
  EVENKEEL_RETURN_IF_ERROR(CheckRange(field("states"), slots.states(i), 0, 3));
  SlotRecord record{.state = static_cast<SlotState>(slots.states(i)),
                    .expert = kNoExpert,
                    .generation = slots.generations(i),
                    .fingerprint = slots.fingerprints(i)};
  if (slots.experts(i) != -1) {
    if (slots.experts(i) < 0) return Bad(field("experts"), slots.experts(i), "-1 or an expert");
    EVENKEEL_ASSIGN_OR_RETURN(record.expert,
                              ToExpert(field("experts"), static_cast<uint64_t>(slots.experts(i)), group));
  } else if (record.state == SlotState::kVerified) {
    return Bad(field("experts"), -1, "the expert of a verified slot");
  }
  return record;
}

absl::StatusOr<std::vector<SlotRecord>> ToRecords(const v1::SlotInventory& slots, const GroupInfo& group) {
  const uint64_t num_slots =
      static_cast<uint64_t>(group.num_layers) * static_cast<uint64_t>(group.shape.slots_per_rank);
  EVENKEEL_RETURN_IF_ERROR(CheckLength("attach.slots.states", slots.states_size(), num_slots));
  EVENKEEL_RETURN_IF_ERROR(CheckLength("attach.slots.experts", slots.experts_size(), num_slots));
  EVENKEEL_RETURN_IF_ERROR(CheckLength("attach.slots.generations", slots.generations_size(), num_slots));
  EVENKEEL_RETURN_IF_ERROR(CheckLength("attach.slots.fingerprints", slots.fingerprints_size(), num_slots));
  std::vector<SlotRecord> records;
  records.reserve(num_slots);
  for (int i = 0; i < slots.states_size(); ++i) {
    EVENKEEL_ASSIGN_OR_RETURN(SlotRecord record, ToRecord(slots, i, group));
    records.push_back(record);
  }
  return records;
}

absl::StatusOr<std::vector<Endpoint>> ToEndpoints(absl::string_view field,
                                                  const google::protobuf::RepeatedPtrField<v1::Endpoint>& messages) {
  EVENKEEL_RETURN_IF_ERROR(
      CheckRange(absl::StrCat("the length of ", field), static_cast<uint64_t>(messages.size()), 0, kEndpointsMax));
  std::vector<Endpoint> endpoints;
  for (int i = 0; i < messages.size(); ++i) {
    EVENKEEL_ASSIGN_OR_RETURN(Endpoint endpoint, FromProto(absl::StrCat(field, "[", i, "]"), messages[i]));
    endpoints.push_back(std::move(endpoint));
  }
  return endpoints;
}

absl::StatusOr<AgentMessage> ToValue(const v1::Attach& message) {
  if (!message.has_group()) return Missing("attach.group");
  if (!message.has_member()) return Missing("attach.member");
  Attach attach;
  EVENKEEL_ASSIGN_OR_RETURN(attach.group, FromProto("attach.group", message.group()));
  EVENKEEL_ASSIGN_OR_RETURN(attach.member, FromProto("attach.member", message.member(), attach.group));
  EVENKEEL_ASSIGN_OR_RETURN(attach.endpoints, ToEndpoints("attach.endpoints", message.endpoints()));
  EVENKEEL_ASSIGN_OR_RETURN(attach.slots, ToRecords(message.slots(), attach.group));
  attach.term_obeyed = message.term_obeyed();
  attach.epoch = FromProto(message.epoch());
  attach.maps_digest = message.maps_digest();
  attach.quiesced_epoch = FromProto(message.quiesced_epoch());
  EVENKEEL_ASSIGN_OR_RETURN(attach.view, FromProto("attach.view", message.view(), attach.group));
  attach.joining = message.joining();
  attach.suspended = message.suspended();
  return attach;
}

absl::StatusOr<AgentMessage> ToValue(const v1::Quiesced& message, const GroupInfo&) {
  if (!message.has_epoch()) return Missing("quiesced.epoch");
  return Quiesced{
      .epoch = FromProto(message.epoch()), .maps_digest = message.maps_digest(), .view_number = message.view_number()};
}

absl::StatusOr<AgentMessage> ToValue(const v1::MapsRefused& message, const GroupInfo&) {
  if (!message.has_epoch()) return Missing("maps_refused.epoch");
  return MapsRefused{.epoch = FromProto(message.epoch()),
                     .held_epoch = FromProto(message.held_epoch()),
                     .held_digest = message.held_digest(),
                     .reason = Tamed(message.reason())};
}

absl::StatusOr<AgentMessage> ToValue(const v1::LoadReport& message, const GroupInfo& group) {
  const int num_entries = message.layers_size();
  // Each slot once, and again where its content changed, more than once even.
  const uint64_t num_entries_max =
      4 * static_cast<uint64_t>(group.num_layers) * static_cast<uint64_t>(group.shape.num_slots());
  EVENKEEL_RETURN_IF_ERROR(
      CheckRange("the length of load_report.layers", static_cast<uint64_t>(num_entries), 0, num_entries_max));
  const uint64_t length = static_cast<uint64_t>(num_entries);
  EVENKEEL_RETURN_IF_ERROR(CheckLength("load_report.slots", message.slots_size(), length));
  EVENKEEL_RETURN_IF_ERROR(CheckLength("load_report.experts", message.experts_size(), length));
  EVENKEEL_RETURN_IF_ERROR(CheckLength("load_report.tokens", message.tokens_size(), length));
  const bool has_prefill = message.prefill_tokens_size() > 0, has_decode = message.decode_tokens_size() > 0;
  EVENKEEL_RETURN_IF_ERROR(
      CheckLength("load_report.prefill_tokens", message.prefill_tokens_size(), has_prefill ? length : 0));
  EVENKEEL_RETURN_IF_ERROR(
      CheckLength("load_report.decode_tokens", message.decode_tokens_size(), has_decode ? length : 0));
  EVENKEEL_RETURN_IF_ERROR(CheckRange("load_report.num_unrouted_tokens", message.num_unrouted_tokens(), 0, kTokensMax));
  if (message.time_unix_ns() < 0) return Bad("load_report.time_unix_ns", message.time_unix_ns(), "a time");
  if (message.first_step() > message.last_step()) {
    return Bad("load_report.first_step", message.first_step(),
               absl::StrCat("at most last_step, ", message.last_step(), ","));
  }
  LoadReport report{.time = absl::FromUnixNanos(message.time_unix_ns()),
                    .first_step = message.first_step(),
                    .last_step = message.last_step(),
                    .entries = {},
                    .num_unrouted_tokens = message.num_unrouted_tokens()};
  report.entries.reserve(length);
  const uint32_t num_layers = static_cast<uint32_t>(group.num_layers);
  const uint32_t num_slots = static_cast<uint32_t>(group.shape.num_slots());
  const uint32_t num_experts = static_cast<uint32_t>(group.shape.num_experts);
  for (int i = 0; i < num_entries; ++i) {
    const uint32_t layer = message.layers(i), slot = message.slots(i), expert = message.experts(i);
    // This is the busiest message of all: paths are only made where something is wrong.
    if (layer >= num_layers || slot >= num_slots || expert >= num_experts || message.tokens(i) > kTokensMax)
        [[unlikely]] {
      const auto field = [i](absl::string_view list) { return absl::StrCat("load_report.", list, "[", i, "]"); };
      EVENKEEL_RETURN_IF_ERROR(ToLayer(field("layers"), layer, group).status());
      EVENKEEL_RETURN_IF_ERROR(ToSlot(field("slots"), slot, group).status());
      EVENKEEL_RETURN_IF_ERROR(ToExpert(field("experts"), expert, group).status());
      return CheckRange(field("tokens"), message.tokens(i), 0, kTokensMax);
    }
    const uint64_t tokens = message.tokens(i);
    const uint64_t prefill = has_prefill ? message.prefill_tokens(i) : 0;
    const uint64_t decode = has_decode ? message.decode_tokens(i) : 0;
    if (prefill > tokens || decode > tokens - prefill) [[unlikely]] {
      return Bad(absl::StrCat("load_report.prefill_tokens[", i, "] and decode_tokens"),
                 absl::StrCat(prefill, " and ", decode), absl::StrCat("at most tokens, ", tokens, ", together"));
    }
    report.entries.push_back({.layer = LayerId(static_cast<int32_t>(layer)),
                              .slot = SlotIdx(static_cast<int32_t>(slot)),
                              .expert = ExpertId(static_cast<int32_t>(expert)),
                              .tokens = tokens,
                              .prefill_tokens = prefill,
                              .decode_tokens = decode});
  }
  return report;
}

absl::StatusOr<AgentMessage> ToValue(const v1::EngineStatus& message, const GroupInfo& group) {
  EngineStatus status{.alive = message.alive(),
                      .idle = message.idle(),
                      .leaving = message.leaving(),
                      .suspended = message.suspended(),
                      .called_begin_step = message.called_begin_step(),
                      .called_end_step = message.called_end_step(),
                      .called_route = message.called_route(),
                      .num_steps = message.num_steps(),
                      .num_calls_waited = message.num_calls_waited(),
                      .oldest_open_step = absl::ZeroDuration(),
                      .waiting_for = {},
                      .mean_step_time = absl::ZeroDuration(),
                      .steps_per_second = message.steps_per_second(),
                      .busy_lease = absl::ZeroDuration()};
  EVENKEEL_ASSIGN_OR_RETURN(status.oldest_open_step,
                            DurationFromMicros("engine_status.oldest_open_step_us", message.oldest_open_step_us()));
  EVENKEEL_ASSIGN_OR_RETURN(status.mean_step_time,
                            DurationFromMicros("engine_status.mean_step_time_us", message.mean_step_time_us()));
  EVENKEEL_ASSIGN_OR_RETURN(status.busy_lease,
                            DurationFromMicros("engine_status.busy_lease_us", message.busy_lease_us()));
  // Not a number fails it too.
  if (!(message.steps_per_second() >= 0 && message.steps_per_second() <= kStepsPerSecondMax)) {
    return Bad("engine_status.steps_per_second", message.steps_per_second(), absl::StrCat("0 to ", kStepsPerSecondMax));
  }
  EVENKEEL_RETURN_IF_ERROR(CheckRange("the length of engine_status.waiting_for_ranks",
                                      static_cast<uint64_t>(message.waiting_for_ranks_size()), 0,
                                      static_cast<uint64_t>(group.shape.num_ranks)));
  for (uint32_t waited : message.waiting_for_ranks()) {
    EVENKEEL_ASSIGN_OR_RETURN(const RankId rank, ToRank("engine_status.waiting_for_ranks", waited, group));
    status.waiting_for.push_back(rank);
  }
  return status;
}

// What all messages about one slot have.
template <typename Value, typename Message>
absl::StatusOr<Value> ToSlotMessage(absl::string_view name, const Message& message, const GroupInfo& group) {
  Value value;
  EVENKEEL_ASSIGN_OR_RETURN(value.layer, ToLayer(absl::StrCat(name, ".layer"), message.layer(), group));
  EVENKEEL_ASSIGN_OR_RETURN(value.slot, ToSlot(absl::StrCat(name, ".slot"), message.slot(), group));
  value.generation = message.generation();
  return value;
}

absl::StatusOr<AgentMessage> ToValue(const v1::MoveFinished& message, const GroupInfo& group) {
  EVENKEEL_ASSIGN_OR_RETURN(MoveFinished value, ToSlotMessage<MoveFinished>("move_finished", message, group));
  EVENKEEL_RETURN_IF_ERROR(CheckRange("move_finished.bytes", message.bytes(), 0, kBytesMax));
  EVENKEEL_ASSIGN_OR_RETURN(value.elapsed, DurationFromMicros("move_finished.elapsed_us", message.elapsed_us()));
  value.move_id = message.move_id();
  value.fingerprint = message.fingerprint();
  value.bytes = message.bytes();
  EVENKEEL_RETURN_IF_ERROR(CheckRange("move_finished.num_mismatches", message.num_mismatches(), 0, kMismatchesMax));
  value.num_mismatches = static_cast<int>(message.num_mismatches());
  return value;
}

absl::StatusOr<AgentMessage> ToValue(const v1::MoveFailed& message, const GroupInfo& group) {
  EVENKEEL_ASSIGN_OR_RETURN(MoveFailed value, ToSlotMessage<MoveFailed>("move_failed", message, group));
  EVENKEEL_RETURN_IF_ERROR(CheckError("move_failed.error", message.error()));
  if (message.source_rank() != -1) {
    if (message.source_rank() < 0) return Bad("move_failed.source_rank", message.source_rank(), "-1 or a rank");
    EVENKEEL_ASSIGN_OR_RETURN(value.source,
                              ToRank("move_failed.source_rank", static_cast<uint64_t>(message.source_rank()), group));
  }
  value.move_id = message.move_id();
  value.status = StatusOf(message.error());
  value.content_kept = message.content_kept();
  EVENKEEL_RETURN_IF_ERROR(CheckRange("move_failed.num_mismatches", message.num_mismatches(), 0, kMismatchesMax));
  value.num_mismatches = static_cast<int>(message.num_mismatches());
  return value;
}

absl::StatusOr<AgentMessage> ToValue(const v1::SlotLost& message, const GroupInfo& group) {
  EVENKEEL_ASSIGN_OR_RETURN(SlotLost value, ToSlotMessage<SlotLost>("slot_lost", message, group));
  return value;
}

absl::StatusOr<AgentMessage> ToValue(const v1::PeerEnded& message, const GroupInfo& group) {
  EVENKEEL_ASSIGN_OR_RETURN(const Member member, FromProto("peer_ended.member", message.member(), group));
  return PeerEnded{member};
}

absl::StatusOr<AgentMessage> ToValue(const v1::EndpointsChanged& message, const GroupInfo&) {
  EndpointsChanged value;
  EVENKEEL_ASSIGN_OR_RETURN(value.endpoints, ToEndpoints("endpoints_changed.endpoints", message.endpoints()));
  return value;
}

}  // namespace

absl::StatusOr<AgentMessage> FromProto(const v1::AgentMessage& message, const GroupInfo* group) {
  if (message.has_attach() != (group == nullptr)) {
    return absl::InvalidArgumentError(group == nullptr ? "the first message of a stream is not attach"
                                                       : "attach is not the first message of its stream");
  }
  switch (message.message_case()) {
    case v1::AgentMessage::kAttach:
      return ToValue(message.attach());
    case v1::AgentMessage::kQuiesced:
      return ToValue(message.quiesced(), *group);
    case v1::AgentMessage::kMapsRefused:
      return ToValue(message.maps_refused(), *group);
    case v1::AgentMessage::kLoadReport:
      return ToValue(message.load_report(), *group);
    case v1::AgentMessage::kEngineStatus:
      return ToValue(message.engine_status(), *group);
    case v1::AgentMessage::kMoveFinished:
      return ToValue(message.move_finished(), *group);
    case v1::AgentMessage::kMoveFailed:
      return ToValue(message.move_failed(), *group);
    case v1::AgentMessage::kSlotLost:
      return ToValue(message.slot_lost(), *group);
    case v1::AgentMessage::kPeerEnded:
      return ToValue(message.peer_ended(), *group);
    case v1::AgentMessage::kEndpointsChanged:
      return ToValue(message.endpoints_changed(), *group);
    case v1::AgentMessage::MESSAGE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("the message holds nothing that this controller knows");
}

}  // namespace evenkeel::proto
