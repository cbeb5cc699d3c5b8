// SPDX-License-Identifier: Apache-2.0
//
// The real controller in this process, on port zero, with agents scripted over real gRPC.
#include "controller/daemon.h"

#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "catch2/catch.hpp"

#include "proto/convert_common.h"
#include "proto/evenkeel/v1/control.grpc.pb.h"
#include "tests/controller/fake_agent.h"

namespace evenkeel::controller {
namespace {

using std::chrono::system_clock;

ControllerSettings QuickSettings() {
  ControllerSettings settings;
  settings.listen = "127.0.0.1:0";
  settings.coordinator.listen_interval = absl::Milliseconds(20);
  settings.coordinator.defaults.shares_interval = absl::Milliseconds(50);
  settings.coordinator.defaults.window = absl::Milliseconds(50);
  settings.coordinator.defaults.placement_enabled = false;
  return settings;
}

// A running controller and a client of its Control service.
struct Running {
  explicit Running(ControllerSettings settings = QuickSettings()) {
    spdlog::set_level(spdlog::level::off);
    auto started = Daemon::Start({.settings = std::move(settings), .on_end = [this](absl::Status why) {
                                    end = std::move(why);
                                    ended.Notify();
                                  }});
    INFO(started.status().ToString());
    REQUIRE(started.ok());
    daemon = *std::move(started);
    control = v1::Control::NewStub(grpc::CreateChannel(daemon->address(), grpc::InsecureChannelCredentials()));
  }

  absl::Notification ended;
  absl::Status end;
  std::unique_ptr<Daemon> daemon;
  std::unique_ptr<v1::Control::Stub> control;
};

std::unique_ptr<grpc::ClientContext> Context(int seconds = 60) {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(system_clock::now() + std::chrono::seconds(seconds));
  return context;
}

v1::ListGroupsResponse ListGroups(Running& running) {
  v1::ListGroupsResponse response;
  REQUIRE(running.control->ListGroups(Context().get(), {}, &response).ok());
  return response;
}

v1::Group GetGroup(Running& running, const std::string& name) {
  v1::Group group;
  v1::GetGroupRequest request;
  request.set_group(name);
  const grpc::Status status = running.control->GetGroup(Context().get(), request, &group);
  INFO(status.error_message());
  REQUIRE(status.ok());
  return group;
}

// The status of a rearrangement, and the operation it told of last.
std::pair<grpc::Status, v1::Operation> Rearrange(Running& running, const v1::RearrangeRequest& request) {
  const auto context = Context();
  const auto reader = running.control->Rearrange(context.get(), request);
  v1::Operation operation, last;
  while (reader->Read(&operation)) last = operation;
  return {reader->Finish(), last};
}

// A whole group that serves; its loads are skewed towards experts 1 and 5, which have one replica each.
class ServingGroup {
 public:
  ServingGroup(Running& running, const std::string& name) : group_(FakeGroup(name)), served_(4) {
    for (int rank = 0; rank < 4; ++rank) {
      agents_.push_back(std::make_unique<FakeAgent>(running.daemon->address()));
      REQUIRE(agents_.back()->Send(FakeAttach(group_, rank)));
    }
    for (int rank = 0; rank < 4; ++rank) {
      threads_.emplace_back([this, rank] {
        LoadReport report{
            .time = absl::UnixEpoch(), .first_step = 1, .last_step = 1, .entries = {}, .num_unrouted_tokens = 0};
        const algos::Placement placement = algos::DefaultPlacement(group_.shape);
        for (int layer = 0; layer < 2; ++layer) {
          for (int local = 0; local < 3; ++local) {
            const SlotIdx slot = group_.shape.SlotAt(RankId(rank), local);
            const ExpertId expert = placement.expert_of_slot[slot.idx()];
            report.entries.push_back({LayerId(layer), slot, expert, expert.value() % 4 == 1 ? 1000u : 10u});
          }
        }
        served_[static_cast<size_t>(rank)] = ServeRank(*agents_[static_cast<size_t>(rank)], group_, report);
      });
    }
    const auto deadline = system_clock::now() + std::chrono::seconds(60);
    while (GetGroup(running, name).forming()) REQUIRE(system_clock::now() < deadline);
  }
  // After the daemon has stopped, or the streams have ended otherwise.
  int Join() {
    int num_moves = 0;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    for (const ServedRank& served : served_) num_moves += served.num_moves;
    return num_moves;
  }

 private:
  const GroupInfo group_;
  std::vector<ServedRank> served_;
  std::vector<std::unique_ptr<FakeAgent>> agents_;
  std::vector<std::thread> threads_;
};

TEST_CASE("an agent that attaches is welcomed under a term and its group is listed", "[daemon]") {
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

TEST_CASE("a malformed message ends the stream with the field's name and leaves others alone", "[daemon]") {
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

TEST_CASE("an agent of another world size is refused with a reason", "[daemon]") {
  Running running;
  const GroupInfo group = FakeGroup("chat");
  FakeAgent first(running.daemon->address());
  REQUIRE(first.Send(FakeAttach(group, 0)));
  REQUIRE(first.Read(group).has_value());
  GroupInfo other = group;
  other.shape.slots_per_rank = 4;
  FakeAgent second(running.daemon->address());
  REQUIRE(second.Send(FakeAttach(other, 1)));
  const auto refused = second.Read(other);
  REQUIRE(refused.has_value());
  REQUIRE(std::holds_alternative<Refused>(*refused));
  const grpc::Status end = second.End();
  CHECK(end.error_code() != grpc::StatusCode::OK);
  CHECK(end.error_code() == static_cast<grpc::StatusCode>(std::get<Refused>(*refused).status.code()));
  CHECK(end.error_message() == std::get<Refused>(*refused).status.message());
}

TEST_CASE("an oversized message is refused and the controller goes on", "[daemon]") {
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

TEST_CASE("what is unknown has the right code and a sentence", "[daemon]") {
  Running running;
  v1::Group group;
  v1::GetGroupRequest request;
  grpc::Status status = running.control->GetGroup(Context().get(), request, &group);
  CHECK(status.error_code() == grpc::StatusCode::NOT_FOUND);
  CHECK(status.error_message() == "no group has attached yet");
  request.set_group("chat");
  status = running.control->GetGroup(Context().get(), request, &group);
  CHECK(status.error_code() == grpc::StatusCode::NOT_FOUND);
  CHECK(status.error_message().find("no group chat") == 0);

  while (ListGroups(running).term() == 0) {
  }
  v1::RearrangeRequest rearrange;
  rearrange.set_group("chat");
  CHECK(Rearrange(running, rearrange).first.error_code() == grpc::StatusCode::NOT_FOUND);
  rearrange.set_policy("magic");
  CHECK(Rearrange(running, rearrange).first.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  rearrange.clear_policy();
  rearrange.set_request_id(std::string(129, 'a'));
  CHECK(Rearrange(running, rearrange).first.error_code() == grpc::StatusCode::INVALID_ARGUMENT);

  v1::WatchStatsRequest watch;
  watch.set_interval_ms(1);
  const auto context = Context();
  const auto reader = running.control->WatchStats(context.get(), watch);
  v1::StatsUpdate update;
  CHECK_FALSE(reader->Read(&update));
  CHECK(reader->Finish().error_message() == "interval_ms is 1: 0 or 50 to 3600000 wanted");
}

TEST_CASE("a group that is forming cannot be rearranged", "[daemon]") {
  Running running;
  const GroupInfo group = FakeGroup("chat");
  FakeAgent agent(running.daemon->address());
  REQUIRE(agent.Send(FakeAttach(group, 0)));
  REQUIRE(agent.Read(group).has_value());
  const auto [status, operation] = Rearrange(running, {});
  CHECK(status.error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(status.error_message().find("forming") != std::string::npos);
}

TEST_CASE("a served group is rearranged on request, once for each request id", "[daemon]") {
  Running running;
  ServingGroup serving(running, "chat");
  // Load must have been seen before there is anything to plan on.
  v1::GroupStats stats;
  const auto deadline = system_clock::now() + std::chrono::seconds(60);
  while (stats.windows_size() == 0) {
    REQUIRE(system_clock::now() < deadline);
    REQUIRE(running.control->GetStats(Context().get(), {}, &stats).ok());
  }
  v1::RearrangeRequest request;
  request.set_request_id("first");
  const auto [status, operation] = Rearrange(running, request);
  INFO(operation.DebugString());
  REQUIRE(status.ok());
  CHECK(operation.id() == "first");
  CHECK(operation.state() == v1::OPERATION_STATE_DONE);
  CHECK(operation.num_moves_done() == operation.num_moves());
  CHECK(operation.num_moves() > 0);

  const auto [again_status, again] = Rearrange(running, request);
  CHECK(again_status.ok());
  CHECK(again.changed_unix_us() == operation.changed_unix_us());
  v1::ListOperationsResponse operations;
  REQUIRE(running.control->ListOperations(Context().get(), {}, &operations).ok());
  CHECK(operations.operations_size() == 1);

  request.set_request_id("unknown-layer");
  request.add_layers(2);
  CHECK(Rearrange(running, request).first.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  running.daemon->Stop();
  CHECK(serving.Join() >= static_cast<int>(operation.num_moves()));
}

TEST_CASE("maps, redundancy, stats and operations can be asked for and watched", "[daemon]") {
  Running running;
  ServingGroup serving(running, "chat");
  v1::GroupMaps maps;
  v1::GetMapRequest map_request;
  map_request.add_layers(1);
  REQUIRE(running.control->GetMap(Context().get(), map_request, &maps).ok());
  REQUIRE(maps.layers_size() == 1);
  CHECK(maps.layers(0).layer() == 1);
  CHECK(maps.layers(0).map().slots_size() == 12);
  CHECK(maps.layers(0).slot_uses_size() == 12);
  CHECK(maps.shape().num_ranks() == 4);
  map_request.add_layers(7);
  CHECK(running.control->GetMap(Context().get(), map_request, &maps).error_code() ==
        grpc::StatusCode::INVALID_ARGUMENT);

  v1::RedundancyReport report;
  REQUIRE(running.control->CheckRedundancy(Context().get(), {}, &report).ok());
  CHECK(report.layers_size() == 2);
  CHECK(report.ranks_may_be_lost_serving() == 1);

  const auto context = Context();
  const auto reader = running.control->WatchStats(context.get(), {});
  v1::StatsUpdate update;
  int64_t begin = 0;
  for (int i = 0; i < 3; ++i) {
    REQUIRE(reader->Read(&update));
    CHECK(update.group().info().name() == "chat");
    CHECK(update.group().members_size() == 0);
    CHECK(update.time_unix_us() > begin);
    begin = update.time_unix_us();
  }
  context->TryCancel();

  const auto operations_context = Context();
  const auto operations = running.control->WatchOperations(operations_context.get(), {});
  operations->WaitForInitialMetadata();
  running.daemon->Stop();
  v1::Operation operation;
  while (operations->Read(&operation)) {
  }
  CHECK(operations->Finish().error_code() == grpc::StatusCode::UNAVAILABLE);
  serving.Join();
}

TEST_CASE("a controller's successor takes a higher term and knows the operations", "[daemon]") {
  ControllerSettings settings = QuickSettings();
  settings.store = std::string(std::getenv("TEST_TMPDIR")) + "/successor.db";
  const GroupInfo group = FakeGroup("chat");
  for (uint32_t term : {1u, 2u, 3u}) {
    Running running(settings);
    FakeAgent agent(running.daemon->address());
    REQUIRE(agent.Send(FakeAttach(group, 0)));
    const auto welcome = agent.Read(group);
    REQUIRE(welcome.has_value());
    CHECK(std::get<Welcome>(*welcome).term == term);
  }
}

TEST_CASE("a controller that hears a higher term ends and remembers it", "[daemon]") {
  ControllerSettings settings = QuickSettings();
  settings.store = std::string(std::getenv("TEST_TMPDIR")) + "/step-down.db";
  const GroupInfo group = FakeGroup("chat");
  {
    Running running(settings);
    while (ListGroups(running).term() == 0) {
    }
    FakeAgent agent(running.daemon->address());
    Attach attach = FakeAttach(group, 0);
    attach.term_obeyed = 41;
    REQUIRE(agent.Send(attach));
    REQUIRE(running.ended.WaitForNotificationWithTimeout(absl::Seconds(60)));
    CHECK(running.end.message() == "another controller leads with term 41");
  }
  Running running(settings);
  while (ListGroups(running).term() == 0) {
  }
  CHECK(ListGroups(running).term() == 42);
}

TEST_CASE("a second controller on the same port or store does not start", "[daemon]") {
  ControllerSettings settings = QuickSettings();
  settings.store = std::string(std::getenv("TEST_TMPDIR")) + "/second.db";
  Running running(settings);
  settings.listen = running.daemon->address();
  settings.store.clear();
  const auto same_port = Daemon::Start({.settings = settings, .on_end = {}});
  CHECK(same_port.status().message() ==
        "listen on " + settings.listen + ": the address is not ours, or already in use");
  settings.listen = "127.0.0.1:0";
  settings.store = std::string(std::getenv("TEST_TMPDIR")) + "/second.db";
  const auto same_store = Daemon::Start({.settings = settings, .on_end = {}});
  CHECK(same_store.status().code() == absl::StatusCode::kUnavailable);
}

TEST_CASE("stopping ends streams and calls with unavailable, and may be repeated", "[daemon]") {
  Running running;
  FakeAgent agent(running.daemon->address());
  const GroupInfo group = FakeGroup("chat");
  REQUIRE(agent.Send(FakeAttach(group, 0)));
  REQUIRE(agent.Read(group).has_value());
  running.daemon->Stop();
  running.daemon->Stop();
  const grpc::Status end = agent.End();
  CHECK(end.error_code() == grpc::StatusCode::UNAVAILABLE);
  CHECK(end.error_message() == "the controller ends");
}

TEST_CASE("an agent that leaves is seen to be gone", "[daemon]") {
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
