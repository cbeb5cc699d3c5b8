// SPDX-License-Identifier: Apache-2.0
//
// Modes, pins, named maps and the way back, over real gRPC with a group that serves.
#include "controller/map_calls.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "catch2/catch.hpp"

#include "tests/controller/running_daemon.h"

namespace evenkeel::controller {
namespace {

// A group that serves until the end of the scope.
struct Served {
  // Operations are begun only once the controller's term is stored.
  Served() : group(running, "chat") {
    v1::Operation operation;
    while (running.control->Resume(Context().get(), {}, &operation).error_code() == grpc::StatusCode::UNAVAILABLE) {
    }
  }
  ~Served() {
    running.daemon->Stop();
    group.Join();
  }

  Running running;
  ServingGroup group;
};

std::unique_ptr<grpc::ClientContext> As(const std::string& user) {
  auto context = Context();
  context->AddMetadata("evenkeel-user", user);
  return context;
}

// What a stream of one operation told last.
std::pair<grpc::Status, v1::Operation> Last(grpc::ClientReader<v1::Operation>& reader) {
  v1::Operation operation, last;
  while (reader.Read(&operation)) last = operation;
  return {reader.Finish(), last};
}

// Of layer 0: two experts of two ranks change places.
v1::LayerPlacement Swapped(Running& running) {
  v1::GroupMaps maps;
  REQUIRE(running.control->GetMap(Context().get(), {}, &maps).ok());
  v1::LayerPlacement wanted;
  for (const int32_t expert : maps.layers(0).slot_experts()) wanted.add_expert_of_slot(expert);
  wanted.mutable_expert_of_slot()->SwapElements(1, wanted.expert_of_slot_size() - 2);
  return wanted;
}

TEST_CASE("a mode is set while it serves, by whom is noted", "[map_calls]") {
  Served served;
  Running& running = served.running;
  v1::SetModeRequest request;
  request.set_mode("shadow");
  request.set_reason("trial");
  request.set_request_id("m1");
  v1::Operation operation, again;
  REQUIRE(running.control->SetMode(As("ann").get(), request, &operation).ok());
  CHECK(operation.id() == "m1");
  CHECK(operation.cause() == v1::OPERATION_CAUSE_MODE);
  CHECK(operation.mode() == "shadow");
  CHECK(operation.requested_by().find("ann (ipv4:127.0.0.1:") == 0);
  CHECK(operation.request() == "SetMode");
  CHECK(GetGroup(running, "chat").mode() == "shadow");
  CHECK(GetGroup(running, "chat").mode_set_by() == "m1");
  request.set_mode("full");  // the id is known: nothing changes
  REQUIRE(running.control->SetMode(As("bob").get(), request, &again).ok());
  CHECK(again.mode() == "shadow");
  CHECK(GetGroup(running, "chat").mode() == "shadow");
  request.set_mode("on");
  const grpc::Status refused = running.control->SetMode(Context().get(), request, &again);
  CHECK(refused.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(refused.error_message() == "mode is 'on': off, record, shadow, shares or full wanted");
}

TEST_CASE("a map is compared, put in force and rolled back", "[map_calls]") {
  Served served;
  Running& running = served.running;
  v1::DiffRequest diff_request;
  *diff_request.add_layers() = Swapped(running);
  v1::MapDiff diff;
  REQUIRE(running.control->Diff(Context().get(), diff_request, &diff).ok());
  CHECK(diff.num_moves() == 2);
  CHECK(diff.layers_size() == 1);
  CHECK(diff.layers(0).received_size() == 2);

  v1::SetMapRequest request;
  request.set_request_id("s1");
  *request.add_layers() = diff_request.layers(0);
  auto context = As("ann");
  const auto [set, done] = Last(*running.control->SetMap(context.get(), request));
  INFO(set.error_message() << done.DebugString());
  REQUIRE(set.ok());
  CHECK(done.state() == v1::OPERATION_STATE_DONE);
  CHECK(done.request() == "SetMap");
  CHECK(done.requested_by().find("ann (") == 0);
  CHECK(done.num_moves_done() >= 2);
  REQUIRE(running.control->Diff(Context().get(), diff_request, &diff).ok());
  CHECK(diff.num_moves() == 0);

  v1::RollbackRequest back;
  back.set_request_id("b1");
  back.set_operation("s1");
  context = As("bob");
  const auto [rolled, undone] = Last(*running.control->Rollback(context.get(), back));
  INFO(rolled.error_message() << undone.DebugString());
  REQUIRE(rolled.ok());
  CHECK(undone.state() == v1::OPERATION_STATE_DONE);
  CHECK(undone.request() == "Rollback of s1");
  REQUIRE(running.control->Diff(Context().get(), diff_request, &diff).ok());
  CHECK(diff.num_moves() == 2);
  const v1::Group group = GetGroup(running, "chat");
  REQUIRE(group.rollback_points_size() == 2);
  CHECK(group.rollback_points(0).operation() == "s1");

  back.set_request_id("b2");
  back.set_operation("nobody");
  context = Context();
  CHECK(Last(*running.control->Rollback(context.get(), back)).first.error_code() == grpc::StatusCode::NOT_FOUND);
  request.set_request_id("s2");
  *request.add_layers() = request.layers(0);
  context = Context();
  CHECK(Last(*running.control->SetMap(context.get(), request)).first.error_message() == "layer 0 is named twice");
}

TEST_CASE("pins are told, obeyed and ended by their id", "[map_calls]") {
  Served served;
  Running& running = served.running;
  v1::PinRequest request;
  request.set_request_id("p1");
  request.add_frozen_layers(0);
  v1::Operation pins;
  REQUIRE(running.control->Pin(As("ann").get(), request, &pins).ok());
  CHECK(pins.state() == v1::OPERATION_STATE_RUNNING);
  CHECK(GetGroup(running, "chat").pins(0).operation() == "p1");
  v1::SetMapRequest map;
  *map.add_layers() = Swapped(running);
  auto context = Context();
  const auto [status, operation] = Last(*running.control->SetMap(context.get(), map));
  CHECK(operation.state() == v1::OPERATION_STATE_FAILED);
  CHECK(operation.detail() == "rearrange: layer 0 is frozen by p1");

  v1::UnpinRequest unpin;
  v1::UnpinResponse ended;
  CHECK(running.control->Unpin(Context().get(), unpin, &ended).error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  unpin.add_ids("p2");
  CHECK(running.control->Unpin(Context().get(), unpin, &ended).error_code() == grpc::StatusCode::NOT_FOUND);
  unpin.set_ids(0, "p1");
  REQUIRE(running.control->Unpin(As("bob").get(), unpin, &ended).ok());
  REQUIRE(ended.operations_size() == 1);
  CHECK(ended.operations(0).state() == v1::OPERATION_STATE_DONE);
  CHECK(ended.operations(0).ended_by().find("bob (") == 0);
  CHECK(GetGroup(running, "chat").pins().empty());

  request.set_request_id("p3");
  v1::PlanPin* pin = request.add_pins();
  pin->set_expert(4000);
  CHECK(running.control->Pin(Context().get(), request, &pins).error_code() == grpc::StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace evenkeel::controller
