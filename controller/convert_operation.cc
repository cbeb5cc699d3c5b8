// SPDX-License-Identifier: Apache-2.0
#include "controller/convert_operation.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/time/time.h"

#include "proto/evenkeel/v1/control.pb.h"

namespace evenkeel::controller {
namespace {

constexpr uint64_t kGraceMsMax = 86'400'000;

uint32_t Count(int count) { return count < 0 ? 0 : static_cast<uint32_t>(count); }
int CountOf(uint32_t count) { return count > INT32_MAX ? INT32_MAX : static_cast<int>(count); }

// The enumerations of the wire begin with "unspecified", ours do not.
template <typename Wire, typename Value>
Wire OneUp(Value value) {
  return static_cast<Wire>(static_cast<int>(value) + 1);
}
template <typename Value>
Value OneDown(int wire, Value last, Value otherwise) {
  return wire >= 1 && wire - 1 <= static_cast<int>(last) ? static_cast<Value>(wire - 1) : otherwise;
}

void Fill(const LayerDecision& value, v1::LayerDecision* message) {
  message->set_layer(Count(value.layer.value()));
  message->set_act(value.act);
  message->set_why(OneUp<v1::DecisionReason>(value.why));
  message->set_reason(value.reason);
  message->set_imbalance_before(value.imbalance_before);
  message->set_imbalance_after(value.imbalance_after);
  message->set_num_moves(Count(value.num_moves));
  message->set_gain_tokens(value.gain_tokens);
  message->set_price_tokens(value.price_tokens);
}

LayerDecisions DecisionsOf(const v1::Operation& message) {
  if (message.decisions().empty()) return nullptr;
  std::vector<LayerDecision> decisions;
  for (const v1::LayerDecision& decision : message.decisions()) {
    decisions.push_back({.layer = LayerId(CountOf(decision.layer())),
                         .act = decision.act(),
                         .why = OneDown(decision.why(), DecisionReason::kFrozen, DecisionReason::kStays),
                         .reason = decision.reason(),
                         .imbalance_before = decision.imbalance_before(),
                         .imbalance_after = decision.imbalance_after(),
                         .num_moves = CountOf(decision.num_moves()),
                         .gain_tokens = decision.gain_tokens(),
                         .price_tokens = decision.price_tokens()});
  }
  return std::make_shared<const std::vector<LayerDecision>>(std::move(decisions));
}

// Those that a layer may have as its number.
std::vector<LayerId> LayersOf(const google::protobuf::RepeatedField<uint32_t>& numbers) {
  std::vector<LayerId> layers;
  for (uint32_t layer : numbers) {
    if (layer < 4096) layers.push_back(LayerId(static_cast<int32_t>(layer)));
  }
  return layers;
}

// Likewise.
std::vector<RankId> RanksOf(const v1::Operation& message) {
  std::vector<RankId> ranks;
  for (uint32_t rank : message.ranks()) {
    if (rank < 65536) ranks.push_back(RankId(static_cast<int32_t>(rank)));
  }
  return ranks;
}

// Likewise.
std::vector<algos::Pin> PinsOf(const v1::Operation& message) {
  std::vector<algos::Pin> pins;
  for (const v1::PlanPin& pin : message.pins()) {
    if (pin.layer() >= 4096 || pin.expert() >= 65536 || pin.rank() >= 65536) continue;
    pins.push_back({LayerId(static_cast<int32_t>(pin.layer())), ExpertId(static_cast<int32_t>(pin.expert())),
                    RankId(static_cast<int32_t>(pin.rank()))});
  }
  return pins;
}

std::optional<Mode> ModeOf(const v1::Operation& message) {
  const absl::StatusOr<Mode> mode = ParseMode(message.mode());
  return mode.ok() ? std::optional<Mode>(*mode) : std::nullopt;
}

}  // namespace

void ToProto(const algos::Pin& value, v1::PlanPin* message) {
  message->set_layer(Count(value.layer.value()));
  message->set_expert(Count(value.expert.value()));
  message->set_rank(Count(value.rank.value()));
}

const char* NameOf(OperationState state) {
  static constexpr const char* kNames[] = {"planning", "running",    "done",     "failed",
                                           "skipped",  "superseded", "cancelled"};
  return kNames[static_cast<size_t>(state)];
}

const char* NameOf(Cause cause) {
  static constexpr const char* kNames[] = {"operator", "slow_loop", "emergency", "takeover", "admit",
                                           "drain",    "pause",     "mode",      "pin",      "guard"};
  return kNames[static_cast<size_t>(cause)];
}

bool IsFinal(OperationState state) { return state != OperationState::kPlanning && state != OperationState::kRunning; }

void ToProto(const OperationProgress& value, Decisions decisions, v1::Operation* message) {
  message->set_id(value.id);
  message->set_group(value.group);
  message->set_cause(OneUp<v1::OperationCause>(value.cause));
  message->set_state(OneUp<v1::OperationState>(value.state));
  message->set_policy(value.policy);
  message->set_phase(value.phase);
  for (LayerId layer : value.layers) message->add_layers(static_cast<uint32_t>(layer.value()));
  message->set_for_operator(value.for_operator);
  message->set_cancel_requested(value.cancel_requested);
  message->set_dry_run(value.dry_run);
  for (RankId rank : value.ranks) message->add_ranks(Count(rank.value()));
  message->set_grace_ms(static_cast<uint64_t>(absl::ToInt64Milliseconds(value.grace)));
  message->set_detail(value.detail);
  message->set_started_unix_us(absl::ToUnixMicros(value.started));
  message->set_changed_unix_us(absl::ToUnixMicros(value.changed));
  message->set_num_layers(Count(value.num_layers));
  message->set_num_layers_done(Count(value.num_layers_done));
  message->set_num_waves(Count(value.num_waves));
  message->set_num_moves(Count(value.num_moves));
  message->set_num_moves_done(Count(value.num_moves_done));
  message->set_num_moves_failed(Count(value.num_moves_failed));
  message->set_num_corrupt(Count(value.num_corrupt));
  message->set_bytes_done(value.bytes_done);
  message->set_imbalance_before(value.imbalance_before);
  message->set_imbalance_predicted(value.imbalance_predicted);
  message->set_planning_us(absl::ToInt64Microseconds(value.planning));
  message->set_retiring_us(absl::ToInt64Microseconds(value.retiring));
  message->set_moving_us(absl::ToInt64Microseconds(value.moving));
  message->set_requested_by(value.requested_by);
  message->set_request(value.request);
  message->set_ended_by(value.ended_by);
  if (value.mode.has_value()) message->set_mode(NameOf(*value.mode));
  for (const algos::Pin& pin : value.pins) ToProto(pin, message->add_pins());
  for (LayerId layer : value.frozen) message->add_frozen_layers(Count(layer.value()));
  if (decisions == Decisions::kLeftOut || value.decisions == nullptr) return;
  for (const LayerDecision& decision : *value.decisions) Fill(decision, message->add_decisions());
}

OperationProgress OperationOf(const v1::Operation& message) {
  return {.id = message.id(),
          .group = message.group(),
          .cause = OneDown(message.cause(), Cause::kGuard, Cause::kOperator),
          .state = OneDown(message.state(), OperationState::kCancelled, OperationState::kFailed),
          .policy = message.policy(),
          .layers = LayersOf(message.layers()),
          .for_operator = message.for_operator(),
          .cancel_requested = message.cancel_requested(),
          .dry_run = message.dry_run(),
          .ranks = RanksOf(message),
          .grace = absl::Milliseconds(std::min(message.grace_ms(), kGraceMsMax)),
          .detail = message.detail(),
          .started = absl::FromUnixMicros(message.started_unix_us()),
          .changed = absl::FromUnixMicros(message.changed_unix_us()),
          .num_layers = CountOf(message.num_layers()),
          .num_layers_done = CountOf(message.num_layers_done()),
          .num_waves = CountOf(message.num_waves()),
          .num_moves = CountOf(message.num_moves()),
          .num_moves_done = CountOf(message.num_moves_done()),
          .num_moves_failed = CountOf(message.num_moves_failed()),
          .num_corrupt = CountOf(message.num_corrupt()),
          .bytes_done = message.bytes_done(),
          .imbalance_before = message.imbalance_before(),
          .imbalance_predicted = message.imbalance_predicted(),
          .decisions = DecisionsOf(message),
          .phase = message.phase(),
          .planning = absl::Microseconds(message.planning_us()),
          .retiring = absl::Microseconds(message.retiring_us()),
          .moving = absl::Microseconds(message.moving_us()),
          .requested_by = message.requested_by(),
          .request = message.request(),
          .ended_by = message.ended_by(),
          .mode = ModeOf(message),
          .pins = PinsOf(message),
          .frozen = LayersOf(message.frozen_layers())};
}

}  // namespace evenkeel::controller
