// SPDX-License-Identifier: Apache-2.0
#include "controller/agent_service.h"

#include <chrono>
#include <string>
#include <variant>

#include "absl/synchronization/notification.h"
#include "catch2/catch.hpp"

#include "proto/convert_common.h"
#include "runtime/clock.h"
#include "runtime/read_pass.h"
#include "runtime/strand.h"
#include "tests/controller/fake_agent.h"
#include "tests/controller/running_daemon.h"

namespace evenkeel::controller {
namespace {

TEST_CASE("an agent that attaches is welcomed under a term and its group is listed", "[agent_service]") {
  Running running;
  FakeAgent agent(running.daemon->address());
  const GroupInfo group = FakeGroup("chat");
  REQUIRE(agent.Send(FakeAttach(group, 2)));
  const auto welcome = agent.Read(group);
  REQUIRE(welcome.has_value());
  REQUIRE(std::holds_alternative<Welcome>(*welcome));
  CHECK(std::get<Welcome>(*welcome).term == 1);
  CHECK(std::get<Welcome>(*welcome).settings == AgentSettings());

  const v1::ListGroupsResponse groups = ListGroups(running);
  CHECK(groups.term() == 1);
  REQUIRE(groups.groups_size() == 1);
  CHECK(groups.groups(0).info().name() == "chat");
  CHECK(groups.groups(0).forming());
  const v1::Group detail = GetGroup(running, "");
  REQUIRE(detail.members_size() == 4);
  CHECK(detail.members(2).attached());
  CHECK_FALSE(detail.members(0).attached());
}

TEST_CASE("bytes that are no message end the stream with a clear error", "[agent_service]") {
  using grpc::ByteBuffer;
  Running running;
  const auto channel = grpc::CreateChannel(running.daemon->address(), grpc::InsecureChannelCredentials());
  const grpc::internal::RpcMethod method("/evenkeel.v1.AgentService/Attach", grpc::internal::RpcMethod::BIDI_STREAMING);
  grpc::ClientContext context;
  context.set_deadline(system_clock::now() + std::chrono::seconds(60));
  const std::unique_ptr<grpc::ClientReaderWriter<ByteBuffer, ByteBuffer>> stream(
      grpc::internal::ClientReaderWriterFactory<ByteBuffer, ByteBuffer>::Create(channel.get(), method, &context));
  const grpc::Slice garbage("\xff\xff\xff no message");
  REQUIRE(stream->Write(ByteBuffer(&garbage, 1)));
  ByteBuffer unread;
  while (stream->Read(&unread)) {
  }
  const grpc::Status end = stream->Finish();
  CHECK(end.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(end.error_message() == "the message cannot be parsed");
  CHECK(ListGroups(running).groups_size() == 0);
}

TEST_CASE("a malformed message ends the stream with the field's name and leaves others alone", "[agent_service]") {
  Running running;
  const GroupInfo group = FakeGroup("chat");
  FakeAgent good(running.daemon->address());
  REQUIRE(good.Send(FakeAttach(group, 0)));
  REQUIRE(good.Read(group).has_value());

  FakeAgent first_not_attach(running.daemon->address());
  first_not_attach.Send(Quiesced{});
  grpc::Status end = first_not_attach.End();
  CHECK(end.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(end.error_message() == "the first message of a stream is not attach");

  FakeAgent bad(running.daemon->address());
  REQUIRE(bad.Send(FakeAttach(group, 1)));
  REQUIRE(bad.Read(group).has_value());
  bad.Send(SlotLost{LayerId(9), SlotIdx(0), 1});
  end = bad.End();
  CHECK(end.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(end.error_message() == "slot_lost.layer is 9: one of the group's 2 layers, 0 to 1, wanted");

  CHECK(good.Send(Quiesced{}));
  CHECK(GetGroup(running, "chat").members(0).attached());
}

TEST_CASE("an agent of another world size is refused with a reason", "[agent_service]") {
  Running running;
  const GroupInfo group = FakeGroup("chat");
  FakeAgent first(running.daemon->address());
  REQUIRE(first.Send(FakeAttach(group, 0)));
  REQUIRE(first.Read(group).has_value());
  GroupInfo other = group;
  other.shape.num_ranks = 3;
  FakeAgent second(running.daemon->address());
  REQUIRE(second.Send(FakeAttach(other, 1)));
  const auto refused = second.Read(other);
  REQUIRE(refused.has_value());
  REQUIRE(std::holds_alternative<Refused>(*refused));
  const grpc::Status end = second.End();
  CHECK(end.error_code() != grpc::StatusCode::OK);
  CHECK(end.error_code() == static_cast<grpc::StatusCode>(std::get<Refused>(*refused).status.code()));
  CHECK(end.error_message() == std::get<Refused>(*refused).status.message());
  CHECK(end.error_message() == "attach: world size 3, but the group has 4");
}

TEST_CASE("an order holds passes for its reader, and no secret of who is read", "[agent_service]") {
  const std::string secret(32, 's');
  const GroupInfo group = FakeGroup("chat");
  runtime::Strand strand({.name = "test"});
  const std::unique_ptr<Gate> gate = *Gate::Open({});
  AgentService* sender = nullptr;
  const auto order = [&](SessionId session, const AgentMessage&) {
    MoveOrder move;
    move.layer = LayerId(0);
    move.expert = ExpertId(1);
    move.slot = SlotIdx(0);
    move.retired_since = {3, 8};
    move.deadline = absl::Seconds(1);
    move.sources = {{{RankId(1), 2}, SlotIdx(3), 1, {"ucx", "host", "address", secret}},
                    {Member(), SlotIdx(), 0, {"pool", "host", "address"}}};
    sender->Send(session, SharedMessage(move));
  };
  AgentService service(strand, *gate, {.on_message = order, .on_detached = [](SessionId) {}}, {});
  sender = &service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service.service());
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  {
    FakeAgent agent("127.0.0.1:" + std::to_string(port));
    const Attach attach = FakeAttach(group, 0);
    REQUIRE(agent.Send(attach));
    const auto answer = agent.Read(group);
    REQUIRE(answer.has_value());
    const auto& sources = std::get<MoveOrder>(*answer).sources;
    REQUIRE(sources.size() == 2);
    CHECK(sources[0].pass == runtime::MakePass(secret, Epoch{3, 8}.packed(), {0, attach.member.incarnation}));
    CHECK(sources[0].endpoint.secret.empty());
    CHECK(sources[1].pass.empty());
  }
  service.CloseAll(absl::UnavailableError("over"));
  server->Shutdown();
  strand.Stop();
}

TEST_CASE("a stream that sends no attach in time is ended, one that has sent it is not", "[agent_service]") {
  runtime::Strand strand({.name = "test"});
  const std::unique_ptr<Gate> gate = *Gate::Open({});
  AgentService service(strand, *gate, {.on_message = [](SessionId, AgentMessage) {}, .on_detached = [](SessionId) {}},
                       {.attach_within = absl::Seconds(2)});
  absl::Notification timed;
  REQUIRE(strand
              .Post([&] {
                strand.AssertHeld();
                strand.SetTimer({.next_wakeup = [&] { return service.NextWakeup(); },
                                 .on_wakeup = [&] { service.Wake(runtime::MonotonicNow()); }});
                timed.Notify();
              })
              .ok());
  timed.WaitForNotification();
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service.service());
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  const std::string address = "127.0.0.1:" + std::to_string(port);
  FakeAgent silent(address), good(address);
  REQUIRE(good.Send(FakeAttach(FakeGroup("chat"), 0)));
  const grpc::Status end = silent.End();
  CHECK(end.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED);
  CHECK(end.error_message() == "no attach within 2s");
  CHECK(good.Send(Quiesced{}));  // past its deadline too
  service.CloseAll(absl::UnavailableError("the test ends"));
  CHECK(good.End().error_code() == grpc::StatusCode::UNAVAILABLE);
  server->Shutdown();
  strand.Stop();
}

TEST_CASE("an oversized message is refused and the controller goes on", "[agent_service]") {
  Running running;
  FakeAgent agent(running.daemon->address());
  v1::AgentMessage huge;
  huge.mutable_attach()->mutable_group()->set_name(std::string(proto::kMessageBytesMax + 1, 'x'));
  agent.SendRaw(huge);
  const grpc::Status end = agent.End();
  CHECK(end.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  CHECK(end.error_message().find("larger") != std::string::npos);
  CHECK(ListGroups(running).groups_size() == 0);
}

TEST_CASE("an agent that leaves is seen to be gone", "[agent_service]") {
  Running running;
  const GroupInfo group = FakeGroup("chat");
  {
    FakeAgent agent(running.daemon->address());
    REQUIRE(agent.Send(FakeAttach(group, 0)));
    REQUIRE(agent.Read(group).has_value());
    CHECK(GetGroup(running, "chat").members(0).attached());
  }
  const auto deadline = system_clock::now() + std::chrono::seconds(60);
  while (GetGroup(running, "chat").members(0).attached()) REQUIRE(system_clock::now() < deadline);
}

}  // namespace
}  // namespace evenkeel::controller
