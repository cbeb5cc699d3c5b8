// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <variant>

#include "proto/convert_agent.h"
#include "proto/convert_common.h"
#include "proto/convert_endpoint.h"
#include "proto/evenkeel/v1/agent.pb.h"

namespace evenkeel::proto {
namespace {

uint32_t Wire(LayerId layer) { return static_cast<uint32_t>(layer.value()); }
uint32_t Wire(SlotIdx slot) { return static_cast<uint32_t>(slot.value()); }
uint32_t Wire(ExpertId expert) { return static_cast<uint32_t>(expert.value()); }

void Render(const Attach& value, v1::AgentMessage* out) {
  v1::Attach* message = out->mutable_attach();
  ToProto(value.group, message->mutable_group());
  ToProto(value.member, message->mutable_member());
  for (const Endpoint& endpoint : value.endpoints) ToProto(endpoint, message->add_endpoints());
  message->set_term_obeyed(value.term_obeyed);
  ToProto(value.epoch, message->mutable_epoch());
  message->set_maps_digest(value.maps_digest);
  ToProto(value.quiesced_epoch, message->mutable_quiesced_epoch());
  ToProto(value.view, message->mutable_view());
  message->set_joining(value.joining);
  message->set_suspended(value.suspended);
  v1::SlotInventory* slots = message->mutable_slots();
  for (const SlotRecord& record : value.slots) {
    slots->add_states(static_cast<uint32_t>(record.state));
    slots->add_experts(record.expert.value());
    slots->add_generations(record.generation);
    slots->add_fingerprints(record.fingerprint);
  }
}

void Render(const Quiesced& value, v1::AgentMessage* out) {
  v1::Quiesced* message = out->mutable_quiesced();
  ToProto(value.epoch, message->mutable_epoch());
  message->set_maps_digest(value.maps_digest);
  message->set_view_number(value.view_number);
}

void Render(const MapsRefused& value, v1::AgentMessage* out) {
  v1::MapsRefused* message = out->mutable_maps_refused();
  ToProto(value.epoch, message->mutable_epoch());
  ToProto(value.held_epoch, message->mutable_held_epoch());
  message->set_held_digest(value.held_digest);
  message->set_reason(Tamed(value.reason));
}

// Nothing where there are none of the phase: it is the busiest message of all.
void RenderPhase(const LoadReport& value, uint64_t LoadReport::Entry::*tokens,
                 google::protobuf::RepeatedField<uint64_t>* out) {
  const auto has_none = [tokens](const LoadReport::Entry& entry) { return entry.*tokens == 0; };
  if (std::all_of(value.entries.begin(), value.entries.end(), has_none)) return;
  out->Reserve(static_cast<int>(value.entries.size()));
  for (const LoadReport::Entry& entry : value.entries) out->Add(entry.*tokens);
}

void Render(const LoadReport& value, v1::AgentMessage* out) {
  v1::LoadReport* message = out->mutable_load_report();
  message->set_time_unix_ns(absl::ToUnixNanos(value.time));
  message->set_first_step(value.first_step);
  message->set_last_step(value.last_step);
  message->set_num_unrouted_tokens(value.num_unrouted_tokens);
  for (const LoadReport::Entry& entry : value.entries) {
    message->add_layers(Wire(entry.layer));
    message->add_slots(Wire(entry.slot));
    message->add_experts(Wire(entry.expert));
    message->add_tokens(entry.tokens);
  }
  RenderPhase(value, &LoadReport::Entry::prefill_tokens, message->mutable_prefill_tokens());
  RenderPhase(value, &LoadReport::Entry::decode_tokens, message->mutable_decode_tokens());
}

void Render(const EngineStatus& value, v1::AgentMessage* out) {
  v1::EngineStatus* message = out->mutable_engine_status();
  message->set_alive(value.alive);
  message->set_idle(value.idle);
  message->set_leaving(value.leaving);
  message->set_suspended(value.suspended);
  message->set_busy_lease_us(absl::ToInt64Microseconds(value.busy_lease));
  message->set_called_begin_step(value.called_begin_step);
  message->set_called_end_step(value.called_end_step);
  message->set_called_route(value.called_route);
  message->set_num_steps(value.num_steps);
  message->set_num_calls_waited(value.num_calls_waited);
  message->set_oldest_open_step_us(absl::ToInt64Microseconds(value.oldest_open_step));
  // A step of less than a microsecond is not an unknown one.
  message->set_mean_step_time_us(absl::ToInt64Microseconds(absl::Ceil(value.mean_step_time, absl::Microseconds(1))));
  message->set_steps_per_second(value.steps_per_second);
  for (RankId rank : value.waiting_for) message->add_waiting_for_ranks(static_cast<uint32_t>(rank.value()));
}

void Render(const MoveFinished& value, v1::AgentMessage* out) {
  v1::MoveFinished* message = out->mutable_move_finished();
  message->set_move_id(value.move_id);
  message->set_layer(Wire(value.layer));
  message->set_slot(Wire(value.slot));
  message->set_generation(value.generation);
  message->set_fingerprint(value.fingerprint);
  message->set_bytes(value.bytes);
  message->set_elapsed_us(absl::ToInt64Microseconds(value.elapsed));
  message->set_num_mismatches(static_cast<uint32_t>(value.num_mismatches));
}

void Render(const MoveFailed& value, v1::AgentMessage* out) {
  v1::MoveFailed* message = out->mutable_move_failed();
  message->set_move_id(value.move_id);
  message->set_layer(Wire(value.layer));
  message->set_slot(Wire(value.slot));
  message->set_generation(value.generation);
  ToProto(value.status, message->mutable_error());
  message->set_content_kept(value.content_kept);
  message->set_source_rank(value.source.value());
  message->set_num_mismatches(static_cast<uint32_t>(value.num_mismatches));
}

void Render(const SlotLost& value, v1::AgentMessage* out) {
  v1::SlotLost* message = out->mutable_slot_lost();
  message->set_layer(Wire(value.layer));
  message->set_slot(Wire(value.slot));
  message->set_generation(value.generation);
}

void Render(const PeerEnded& value, v1::AgentMessage* out) {
  ToProto(value.member, out->mutable_peer_ended()->mutable_member());
}

void Render(const EndpointsChanged& value, v1::AgentMessage* out) {
  v1::EndpointsChanged* message = out->mutable_endpoints_changed();
  for (const Endpoint& endpoint : value.endpoints) ToProto(endpoint, message->add_endpoints());
}

}  // namespace

void ToProto(const AgentMessage& value, v1::AgentMessage* message) {
  message->Clear();
  std::visit([message](const auto& alternative) { Render(alternative, message); }, value);
}

}  // namespace evenkeel::proto
