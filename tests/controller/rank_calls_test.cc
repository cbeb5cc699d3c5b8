// SPDX-License-Identifier: Apache-2.0
#include "controller/rank_calls.h"

#include <chrono>
#include <string>
#include <utility>

#include "catch2/catch.hpp"

#include "tests/controller/fake_agent.h"
#include "tests/controller/running_daemon.h"

namespace evenkeel::controller {
namespace {

v1::GroupMembership Membership(Running& running) {
  v1::GroupMembership membership;
  const grpc::Status status = running.control->GetMembership(Context().get(), {}, &membership);
  INFO(status.error_message());
  REQUIRE(status.ok());
  return membership;
}

std::pair<grpc::Status, v1::Operation> Drain(Running& running, const v1::DrainRankRequest& request) {
  const auto context = Context();
  const auto reader = running.control->DrainRank(context.get(), request);
  v1::Operation operation, last;
  while (reader->Read(&operation)) last = operation;
  return {reader->Finish(), last};
}

grpc::Status Admit(Running& running, const v1::AdmitRankRequest& request) {
  const auto context = Context();
  const auto reader = running.control->AdmitRank(context.get(), request);
  v1::Operation operation;
  while (reader->Read(&operation)) {
  }
  return reader->Finish();
}

TEST_CASE("a rank is drained on request, once for each request id, and watchers see it at once", "[rank_calls]") {
  Running running;
  ServingGroup serving(running, "chat");
  const auto watching = Context();
  const auto watch = running.control->WatchMembership(watching.get(), {});
  v1::GroupMembership seen;
  REQUIRE(watch->Read(&seen));
  CHECK(seen.group() == "chat");
  CHECK(seen.ranks_max() == 4);
  CHECK(seen.slots_per_rank() == 6);
  CHECK(seen.ranks(3).standing() == v1::RANK_STANDING_SERVING);
  CHECK(seen.ranks(3).num_slots_live() == 6);

  v1::DrainRankRequest request;
  request.add_ranks(3);
  request.set_grace_ms(0);
  request.set_request_id("d");
  const auto [status, operation] = Drain(running, request);
  INFO(status.error_message() << operation.DebugString());
  REQUIRE(status.ok());
  CHECK(operation.id() == "d");
  CHECK(operation.state() == v1::OPERATION_STATE_DONE);
  CHECK(operation.cause() == v1::OPERATION_CAUSE_DRAIN);
  REQUIRE(operation.ranks_size() == 1);
  CHECK(operation.ranks(0) == 3);
  CHECK(operation.detail().find("safe to terminate") != std::string::npos);
  const auto again = Drain(running, request).second;
  CHECK(again.started_unix_us() == operation.started_unix_us());

  while (!seen.ranks(3).safe_to_terminate()) REQUIRE(watch->Read(&seen));
  CHECK(seen.ranks(3).standing() == v1::RANK_STANDING_LEFT);
  CHECK(seen.ranks(3).num_slots_live() == 0);
  CHECK(Membership(running).ranks(3).safe_to_terminate());
  watching->TryCancel();
  running.daemon->Stop();
  serving.Join();
}

TEST_CASE("what cannot be asked of ranks has the right code and a sentence", "[rank_calls]") {
  Running running;
  v1::GroupMembership membership;
  CHECK(running.control->GetMembership(Context().get(), {}, &membership).error_code() == grpc::StatusCode::NOT_FOUND);
  ServingGroup serving(running, "chat");
  v1::DrainRankRequest drain;
  CHECK(Drain(running, drain).first.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  drain.add_ranks(4);
  grpc::Status status = Drain(running, drain).first;
  CHECK(status.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(status.error_message().find("it may have 4 ranks at most, 0 to 3") != std::string::npos);
  drain.clear_ranks();
  drain.add_ranks(1);
  drain.add_ranks(2);
  status = Drain(running, drain).first;
  CHECK(status.error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(status.error_message().find("no room for 2 of those that these ranks alone hold") != std::string::npos);
  drain.set_grace_ms(RankCalls::kGraceMsMax + 1);
  CHECK(Drain(running, drain).first.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  v1::AdmitRankRequest admit;
  CHECK(Admit(running, admit).error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  admit.add_ranks(1);
  status = Admit(running, admit);
  CHECK(status.error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(status.error_message() == "admit: rank 1 serves already");
  admit.set_group("other");
  CHECK(Admit(running, admit).error_code() == grpc::StatusCode::NOT_FOUND);
  running.daemon->Stop();
  serving.Join();
}

}  // namespace
}  // namespace evenkeel::controller
