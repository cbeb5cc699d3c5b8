// SPDX-License-Identifier: Apache-2.0
#include "tests/controller/fake_agent.h"

#include <chrono>
#include <utility>
#include <variant>

#include "algos/base/check.h"
#include "algos/placement.h"
#include "proto/convert_agent.h"
#include "proto/convert_common.h"
#include "proto/convert_controller.h"

namespace evenkeel::controller {
namespace {

constexpr std::chrono::seconds kDeadline{60};

uint64_t DefaultDigest(const GroupInfo& group) {
  const algos::LayerMap map = algos::EvenMap(algos::DefaultPlacement(group.shape), group.shape.num_experts);
  const std::vector<uint64_t> layers(static_cast<size_t>(group.num_layers), algos::DigestOf(map));
  return algos::DigestOf(layers);
}

}  // namespace

GroupInfo FakeGroup(const std::string& name) {
  return {.name = name,
          .model = "tiny",
          .weights_version = 1,
          .manifest_digest = 2,
          .shape = {.num_experts = 8, .num_ranks = 4, .slots_per_rank = 3},
          .num_layers = 2,
          .num_nodes = 1,
          .expert_bytes = 1000,
          .count_place = CountPlace::kAfterDispatch,
          .routing = Routing::kSender};
}

Attach FakeAttach(const GroupInfo& group, int rank) {
  Attach attach{.group = group,
                .member = {.rank = RankId(rank), .incarnation = 100 + static_cast<uint64_t>(rank)},
                .endpoints = {{.transport = "local", .host = "here", .address = "x"}},
                .term_obeyed = 0,
                .epoch = {},
                .maps_digest = DefaultDigest(group),
                .quiesced_epoch = {},
                .view = {},
                .slots = {}};
  const algos::Placement placement = algos::DefaultPlacement(group.shape);
  for (int layer = 0; layer < group.num_layers; ++layer) {
    for (int local = 0; local < group.shape.slots_per_rank; ++local) {
      const ExpertId expert = placement.expert_of_slot[group.shape.SlotAt(RankId(rank), local).idx()];
      attach.slots.push_back({.state = SlotState::kVerified,
                              .expert = expert,
                              .generation = 1,
                              .fingerprint = static_cast<uint64_t>(1000 * layer + expert.value())});
    }
  }
  return attach;
}

FakeAgent::FakeAgent(const std::string& address, const std::string& token) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(proto::kMessageBytesMax);
  channel_ = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  stub_ = v1::AgentService::NewStub(channel_);
  context_.set_deadline(std::chrono::system_clock::now() + kDeadline);
  if (!token.empty()) context_.AddMetadata("authorization", "Bearer " + token);
  stream_ = stub_->Attach(&context_);
}

FakeAgent::~FakeAgent() { context_.TryCancel(); }

bool FakeAgent::Send(const AgentMessage& message) {
  v1::AgentMessage wire;
  proto::ToProto(message, &wire);
  return SendRaw(wire);
}

bool FakeAgent::SendRaw(const v1::AgentMessage& message) {
  absl::MutexLock lock(&writing_);
  return stream_->Write(message);
}

std::optional<ControllerMessage> FakeAgent::Read(const GroupInfo& group) {
  v1::ControllerMessage wire;
  if (!stream_->Read(&wire)) return std::nullopt;
  absl::StatusOr<ControllerMessage> message = proto::FromProto(wire, group);
  EVENKEEL_CHECK(message.ok());  // what our own controller sends is always valid
  return *std::move(message);
}

grpc::Status FakeAgent::End() {
  v1::ControllerMessage unread;
  while (stream_->Read(&unread)) {
  }
  return stream_->Finish();
}

ServedRank ServeRank(FakeAgent& agent, const GroupInfo& group) {
  ServedRank served;
  uint64_t view = 0;
  Quiesced quiesced;
  while (const std::optional<ControllerMessage> message = agent.Read(group)) {
    if (const auto* update = std::get_if<ViewUpdate>(&*message)) {
      view = update->view.number;
      agent.Send(Quiesced{quiesced.epoch, quiesced.maps_digest, view});
    } else if (const auto* maps = std::get_if<MapsUpdate>(&*message)) {
      served.epoch = maps->epoch;
      quiesced = {maps->epoch, maps->maps_digest, view};
      agent.Send(quiesced);
    } else if (const auto* order = std::get_if<MoveOrder>(&*message)) {
      ++served.num_moves;
      agent.Send(MoveFinished{order->move_id, order->layer, order->slot, order->generation, order->fingerprint,
                              group.expert_bytes, absl::Milliseconds(1)});
    }
  }
  return served;
}

}  // namespace evenkeel::controller
