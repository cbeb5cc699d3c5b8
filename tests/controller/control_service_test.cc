// SPDX-License-Identifier: Apache-2.0
#include "controller/control_service.h"

#include <chrono>
#include <string>
#include <vector>

#include "catch2/catch.hpp"

#include "tests/controller/fake_agent.h"
#include "tests/controller/running_daemon.h"

namespace evenkeel::controller {
namespace {

TEST_CASE("what is unknown has the right code and a sentence", "[control_service]") {
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

TEST_CASE("a group is paused and resumed, and brief stats leave out its layers", "[control_service]") {
  Running running;
  ServingGroup serving(running, "chat");
  v1::Operation pause, again, resumed;
  v1::PauseRequest request;
  request.set_reason("tests");
  REQUIRE(running.control->Pause(Context().get(), request, &pause).ok());
  CHECK(pause.cause() == v1::OPERATION_CAUSE_PAUSE);
  CHECK(pause.state() == v1::OPERATION_STATE_RUNNING);
  REQUIRE(running.control->Pause(Context().get(), request, &again).ok());
  CHECK(again.id() == pause.id());
  CHECK(GetGroup(running, "chat").pause_reason() == "tests");
  REQUIRE(running.control->Resume(Context().get(), {}, &resumed).ok());
  CHECK(resumed.id() == pause.id());
  CHECK(resumed.state() == v1::OPERATION_STATE_DONE);
  CHECK(running.control->Resume(Context().get(), {}, &resumed).error_message() == "group chat is not paused");
  request.set_reason(std::string(1025, 'x'));
  CHECK(running.control->Pause(Context().get(), request, &pause).error_code() == grpc::StatusCode::INVALID_ARGUMENT);

  v1::GetStatsRequest stats_request;
  v1::GroupStats whole, brief;
  while (whole.windows().empty() || whole.tokens() == 0) {
    REQUIRE(running.control->GetStats(Context().get(), stats_request, &whole).ok());
  }
  stats_request.set_brief(true);
  REQUIRE(running.control->GetStats(Context().get(), stats_request, &brief).ok());
  CHECK(whole.layers_size() == 2);
  CHECK(brief.layers().empty());
  CHECK(brief.tokens() >= whole.tokens());
  v1::WatchStatsRequest watch;
  watch.set_brief(true);
  const auto context = Context();
  const auto reader = running.control->WatchStats(context.get(), watch);
  v1::StatsUpdate update;
  REQUIRE(reader->Read(&update));
  CHECK(update.stats().layers().empty());
  CHECK(update.stats().windows_size() == 1);
  CHECK(update.group().imbalance_initial() > 0);
  context->TryCancel();
  running.daemon->Stop();
  serving.Join();
}

TEST_CASE("a group that is forming cannot be rearranged", "[control_service]") {
  Running running;
  const GroupInfo group = FakeGroup("chat");
  FakeAgent agent(running.daemon->address());
  REQUIRE(agent.Send(FakeAttach(group, 0)));
  REQUIRE(agent.Read(group).has_value());
  const auto [status, operation] = Rearrange(running, {});
  CHECK(status.error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(status.error_message().find("forming") != std::string::npos);
  v1::RearrangeRequest request;
  request.add_placements()->add_expert_of_slot(0);
  const std::string layers = std::to_string(group.num_layers);
  CHECK(Rearrange(running, request).first.error_message() == "placements of 1 layers; group chat has " + layers);
  for (int layer = 1; layer < group.num_layers; ++layer) request.add_placements()->add_expert_of_slot(0);
  CHECK(Rearrange(running, request).first.error_message().find("layer 0: placement of 1 slots: ") == 0);
}

TEST_CASE("a served group is rearranged on request, once for each request id", "[control_service]") {
  Running running;
  ServingGroup serving(running, "chat");
  // Load must have been seen before there is anything to plan on.
  v1::GroupStats stats;
  const auto deadline = system_clock::now() + std::chrono::seconds(60);
  while (stats.tokens() < 50000) {  // several reports of every rank
    REQUIRE(system_clock::now() < deadline);
    REQUIRE(running.control->GetStats(Context().get(), {}, &stats).ok());
  }
  v1::RearrangeRequest request;
  request.set_request_id("first");
  std::vector<v1::Operation> told;
  const auto [status, operation] = Rearrange(running, request, &told);
  INFO(operation.DebugString());
  REQUIRE(status.ok());
  REQUIRE(told.size() > 1);
  CHECK((told[0].state() == v1::OPERATION_STATE_PLANNING || told[0].state() == v1::OPERATION_STATE_RUNNING));
  for (size_t i = 1; i < told.size(); ++i) {
    CHECK(told[i].num_moves_done() >= told[i - 1].num_moves_done());
    CHECK(told[i].num_layers_done() >= told[i - 1].num_layers_done());
    CHECK(told[i].changed_unix_us() >= told[i - 1].changed_unix_us());
  }
  CHECK(operation.id() == "first");
  CHECK(operation.state() == v1::OPERATION_STATE_DONE);
  CHECK(operation.num_moves_done() == operation.num_moves());
  CHECK(operation.num_moves() > 0);

  REQUIRE(operation.decisions_size() == 2);
  uint32_t num_moves = 0;
  for (const v1::LayerDecision& decision : operation.decisions()) {
    CHECK(decision.act() == (decision.why() == v1::DECISION_REASON_ACTS));
    num_moves += decision.act() ? decision.num_moves() : 0;
  }
  CHECK(num_moves > 0);

  v1::CancelOperationRequest cancel;
  v1::Operation cancelled;
  cancel.set_id("first");
  const grpc::Status too_late = running.control->CancelOperation(Context().get(), cancel, &cancelled);
  CHECK(too_late.error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(too_late.error_message() == "operation first has ended already: done");
  cancel.set_id("nobody");
  CHECK(running.control->CancelOperation(Context().get(), cancel, &cancelled).error_code() ==
        grpc::StatusCode::NOT_FOUND);

  const auto [again_status, again] = Rearrange(running, request);
  CHECK(again_status.ok());
  CHECK(again.changed_unix_us() == operation.changed_unix_us());
  v1::ListOperationsResponse operations;
  REQUIRE(running.control->ListOperations(Context().get(), {}, &operations).ok());
  REQUIRE(operations.operations_size() == 1);
  CHECK(operations.operations(0).decisions().empty());
  v1::ListOperationsRequest list;
  list.set_decisions(true);
  list.set_id("first");
  REQUIRE(running.control->ListOperations(Context().get(), list, &operations).ok());
  REQUIRE(operations.operations_size() == 1);
  CHECK(operations.operations(0).decisions_size() == 2);
  list.set_id("second");
  REQUIRE(running.control->ListOperations(Context().get(), list, &operations).ok());
  CHECK(operations.operations().empty());

  request.set_request_id("unknown-option");
  (*request.mutable_policy_options())["depth"] = 2;
  CHECK(Rearrange(running, request).first.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  request.clear_policy_options();
  request.set_request_id("unknown-layer");
  request.add_layers(2);
  CHECK(Rearrange(running, request).first.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  running.daemon->Stop();
  CHECK(serving.Join() >= static_cast<int>(operation.num_moves()));
}

TEST_CASE("maps, redundancy, stats and operations can be asked for and watched", "[control_service]") {
  Running running;
  ServingGroup serving(running, "chat");
  v1::GroupMaps maps;
  v1::GetMapRequest map_request;
  map_request.add_layers(1);
  map_request.add_layers(1);  // counts once
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

}  // namespace
}  // namespace evenkeel::controller
