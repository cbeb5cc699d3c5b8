// SPDX-License-Identifier: Apache-2.0
#include "controller/convert_status.h"

#include <algorithm>

#include "absl/time/time.h"

#include "controller/convert_operation.h"
#include "proto/convert_common.h"
#include "proto/evenkeel/v1/control.pb.h"

namespace evenkeel::controller {
namespace {

uint32_t Count(int count) { return static_cast<uint32_t>(std::max(count, 0)); }

// Times at or before the epoch, such as "never", are 0.
int64_t Micros(absl::Time time) { return std::max<int64_t>(absl::ToUnixMicros(time), 0); }

void Fill(const MemberStatus& value, v1::MemberStatus* message) {
  proto::ToProto(value.member, message->mutable_member());
  message->set_attached(value.attached);
  message->set_alive(value.alive);
  message->set_idle(value.idle);
  proto::ToProto(value.accepted_epoch, message->mutable_accepted_epoch());
  proto::ToProto(value.quiesced_epoch, message->mutable_quiesced_epoch());
  message->set_quiesced_view(value.quiesced_view);
  message->set_num_steps(value.num_steps);
  message->set_num_calls_waited(value.num_calls_waited);
  message->set_oldest_open_step_us(absl::ToInt64Microseconds(value.oldest_open_step));
  message->set_changed_unix_us(Micros(value.changed));
  for (const std::string& call : value.missing_calls) message->add_missing_calls(call);
  message->set_note(value.note);
}

void Fill(const LayerStatus& value, v1::LayerStatus* message) {
  message->set_layer(Count(value.layer.value()));
  proto::ToProto(value.epoch, message->mutable_epoch());
  message->set_phase(value.phase);
  message->set_imbalance_now(value.imbalance_now);
  message->set_imbalance_initial(value.imbalance_initial);
  message->set_imbalance_predicted(value.imbalance_predicted);
  message->set_num_slots_live(Count(value.num_slots_live));
  message->set_num_slots_retired(Count(value.num_slots_retired));
  message->set_num_slots_writing(Count(value.num_slots_writing));
  message->set_num_slots_verified(Count(value.num_slots_verified));
  message->set_num_slots_free(Count(value.num_slots_free));
  message->set_num_slots_condemned(Count(value.num_slots_condemned));
  message->set_free_redundancy(value.free_redundancy);
  for (ExpertId expert : value.experts_lost) message->add_experts_lost(static_cast<uint32_t>(expert.value()));
}

void Fill(const WaveBlocked& value, v1::WaveBlocked* message) {
  message->set_layer(Count(value.layer.value()));
  message->set_rank(Count(value.rank.value()));
  message->set_reason(value.reason);
  message->set_since_unix_us(Micros(value.since));
  message->set_num_waves_undone(Count(value.num_waves_undone));
}

void Fill(const PinStatus& value, v1::StandingPins* message) {
  message->set_operation(value.operation_id);
  for (const algos::Pin& pin : value.pins) ToProto(pin, message->add_pins());
  for (LayerId layer : value.frozen) message->add_frozen_layers(Count(layer.value()));
  message->set_reason(value.reason);
}

void Fill(const RollbackPoint& value, v1::RollbackPoint* message) {
  message->set_operation(value.operation_id);
  proto::ToProto(value.epoch, message->mutable_epoch());
  message->set_time_unix_us(Micros(value.time));
  message->set_num_layers(Count(value.num_layers));
}

void Fill(const GroupTotals& value, v1::GroupTotals* message) {
  message->set_tokens(value.tokens);
  message->set_unrouted_tokens(value.unrouted_tokens);
  message->set_load_reports(value.load_reports);
  message->set_shares_updates(value.shares_updates);
  message->set_shares_shadowed(value.shares_shadowed);
  message->set_publishes(value.publishes);
  message->set_maps_refused(value.maps_refused);
  message->set_rollouts(value.rollouts);
  message->set_waves(value.waves);
  message->set_waves_undone(value.waves_undone);
  message->set_moves(value.moves);
  message->set_moves_failed(value.moves_failed);
  message->set_bytes_moved(value.bytes_moved);
  message->set_fingerprint_failures(value.fingerprint_failures);
  message->set_guard_undone(value.guard_undone);
  message->set_layers_planned(value.layers_planned);
  message->set_layers_balanced(value.layers_balanced);
  message->set_layers_steady(value.layers_steady);
  message->set_layers_resting(value.layers_resting);
  message->set_layers_over_budget(value.layers_over_budget);
  message->set_layers_without_gain(value.layers_without_gain);
  message->set_ranks_lost(value.ranks_lost);
  message->set_experts_restored(value.experts_restored);
}

}  // namespace

void ToProto(const GroupStatus& value, Detail detail, v1::Group* message) {
  proto::ToProto(value.info, message->mutable_info());
  message->mutable_info()->set_name(value.name);
  message->mutable_info()->set_model(value.model);
  message->set_policy(value.policy);
  message->set_term(value.term);
  proto::ToProto(value.epoch, message->mutable_epoch());
  proto::ToProto(value.view, message->mutable_view());
  message->set_forming(value.forming);
  message->set_static_reason(value.static_reason);
  message->set_running_operation(value.running_operation);
  message->set_imbalance_now(value.imbalance_now);
  message->set_imbalance_initial(value.imbalance_initial);
  message->set_imbalance_predicted(value.imbalance_predicted);
  if (detail == Detail::kFull) {
    for (const MemberStatus& member : value.members) Fill(member, message->add_members());
    for (const MemberStatus& member : value.waiting) Fill(member, message->add_waiting());
    for (const LayerStatus& layer : value.layers) Fill(layer, message->add_layers());
    for (const WaveBlocked& blocked : value.waves_blocked) Fill(blocked, message->add_waves_blocked());
    for (const PinStatus& pins : value.pins) Fill(pins, message->add_pins());
    for (const RollbackPoint& point : value.rollback_points) Fill(point, message->add_rollback_points());
  }
  for (const Alert& alert : value.alerts) {
    v1::Alert* out = message->add_alerts();
    out->set_text(alert.text);
    out->set_began_unix_us(Micros(alert.began));
    if (alert.ended.has_value()) out->set_ended_unix_us(Micros(*alert.ended));
  }
  message->set_mode(NameOf(value.mode));
  message->set_mode_set_by(value.mode_set_by);
  if (value.mode == Mode::kShadow) {
    v1::ShadowShares* shadow = message->mutable_shadow_shares();
    shadow->set_time_unix_us(Micros(value.shadow_time));
    shadow->set_num_layers(Count(value.shadow_layers));
    shadow->set_imbalance_before(value.shadow_before);
    shadow->set_imbalance_after(value.shadow_after);
  }
  message->set_imbalance_gap(value.imbalance_gap);
  for (const std::string& why : value.ineffective) message->add_ineffective(why);
  message->set_paused_by(value.paused_by);
  message->set_held(value.held);
  if (!value.guard_pace.empty()) {
    v1::GuardStatus* guard = message->mutable_guard();
    guard->set_pace(value.guard_pace);
    guard->set_step_time_p50_us(absl::ToInt64Microseconds(value.guarded_p50));
    guard->set_step_time_p99_us(absl::ToInt64Microseconds(value.guarded_p99));
  }
  message->set_pause_reason(value.pause_reason);
  message->set_step_time_p99_us(absl::ToInt64Microseconds(value.step_time_p99));
  message->set_wave_deadline_ms(static_cast<uint64_t>(absl::ToInt64Milliseconds(value.wave_deadline)));
  Fill(value.totals, message->mutable_totals());
}

void ToProto(const GroupStats& value, v1::GroupStats* message) {
  message->set_group(value.group);
  message->set_begin_unix_us(Micros(value.begin));
  message->set_end_unix_us(Micros(value.end));
  message->set_tokens(value.tokens);
  message->set_prefill_tokens(value.prefill_tokens);
  message->set_decode_tokens(value.decode_tokens);
  message->set_imbalance_realised(value.imbalance_realised);
  message->set_imbalance_initial(value.imbalance_initial);
  message->set_imbalance_predicted(value.imbalance_predicted);
  for (const LayerStats& layer : value.layers) {
    v1::LayerStats* out = message->add_layers();
    out->set_layer(Count(layer.layer.value()));
    out->mutable_tokens_of_expert()->Assign(layer.tokens_of_expert.begin(), layer.tokens_of_expert.end());
    out->mutable_prefill_tokens_of_expert()->Assign(layer.prefill_tokens_of_expert.begin(),
                                                    layer.prefill_tokens_of_expert.end());
    out->mutable_decode_tokens_of_expert()->Assign(layer.decode_tokens_of_expert.begin(),
                                                   layer.decode_tokens_of_expert.end());
    out->mutable_tokens_of_rank()->Assign(layer.tokens_of_rank.begin(), layer.tokens_of_rank.end());
    out->set_imbalance_realised(layer.imbalance_realised);
    out->set_imbalance_initial(layer.imbalance_initial);
    out->set_imbalance_predicted(layer.imbalance_predicted);
  }
  for (const WindowStats& window : value.windows) {
    v1::WindowStats* out = message->add_windows();
    out->set_begin_unix_us(Micros(window.begin));
    out->set_tokens(window.tokens);
    out->set_prefill_tokens(window.prefill_tokens);
    out->set_decode_tokens(window.decode_tokens);
    out->set_imbalance_realised(window.imbalance_realised);
    out->set_imbalance_initial(window.imbalance_initial);
    out->set_imbalance_predicted(window.imbalance_predicted);
  }
}

void ToProto(const GroupMaps& value, const algos::Shape& shape, v1::GroupMaps* message) {
  message->set_group(value.group);
  proto::ToProto(value.epoch, message->mutable_epoch());
  message->set_view_number(value.view_number);
  message->set_digest(value.digest);
  proto::ToProto(shape, message->mutable_shape());
  for (const LayerMapStatus& layer : value.layers) {
    v1::LayerMapStatus* out = message->add_layers();
    out->set_layer(Count(layer.layer.value()));
    proto::ToProto(layer.epoch, out->mutable_epoch());
    proto::ToProto(layer.map, out->mutable_map());
    for (const SlotStatus& slot : layer.slots) {
      out->add_slot_uses(static_cast<v1::SlotUse>(slot.use));
      out->add_slot_experts(slot.expert.value());
      out->add_slot_generations(slot.generation);
    }
  }
}

void ToProto(const MapDiff& value, v1::MapDiff* message) {
  message->set_group(value.group);
  proto::ToProto(value.epoch, message->mutable_epoch());
  message->set_num_moves(Count(value.num_moves));
  message->set_bytes(value.bytes);
  message->set_imbalance_before(value.imbalance_before);
  message->set_imbalance_after(value.imbalance_after);
  for (const LayerDiff& layer : value.layers) {
    v1::LayerDiff* out = message->add_layers();
    out->set_layer(Count(layer.layer.value()));
    for (const SlotReceives& one : layer.received) ToProto({layer.layer, one.expert, one.rank}, out->add_received());
    out->set_bytes(layer.bytes);
    out->set_imbalance_before(layer.imbalance_before);
    out->set_imbalance_after(layer.imbalance_after);
    out->set_conflict(layer.conflict);
  }
}

void ToProto(const RedundancyReport& value, v1::RedundancyReport* message) {
  message->set_group(value.group);
  for (const LayerRedundancy& layer : value.layers) {
    v1::LayerRedundancy* out = message->add_layers();
    out->set_layer(Count(layer.layer.value()));
    out->set_free_redundancy(layer.free_redundancy);
    out->set_num_slots_condemned(Count(layer.num_slots_condemned));
    for (int replicas : layer.replicas_of_expert) out->add_replicas_of_expert(Count(replicas));
    out->set_ranks_may_be_lost_at_once(Count(layer.ranks_may_be_lost_at_once));
    out->set_hosts_may_be_lost_at_once(Count(layer.hosts_may_be_lost_at_once));
    for (ExpertId expert : layer.experts_at_risk) out->add_experts_at_risk(Count(expert.value()));
  }
  message->set_ranks_may_be_lost_serving(Count(value.ranks_may_be_lost_serving));
  message->set_ranks_may_be_lost_rebalancing(Count(value.ranks_may_be_lost_rebalancing));
  message->set_ranks_may_be_lost_at_once(Count(value.ranks_may_be_lost_at_once));
  message->set_ranks_may_be_lost_at_once_rebalancing(Count(value.ranks_may_be_lost_at_once_rebalancing));
  message->set_hosts_may_be_lost_at_once(Count(value.hosts_may_be_lost_at_once));
  message->set_hosts_may_be_lost_at_once_rebalancing(Count(value.hosts_may_be_lost_at_once_rebalancing));
  message->set_survive_ranks(Count(value.survive_asked.ranks));
  message->set_survive_hosts(Count(value.survive_asked.hosts));
  for (const std::string& problem : value.problems) message->add_problems(problem);
}

}  // namespace evenkeel::controller
