// SPDX-License-Identifier: Apache-2.0
//
// A Control service that answers from a script, and keelctl run against it.
#pragma once

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "cli/keelctl.h"
#include "proto/evenkeel/v1/control.grpc.pb.h"
#include "tests/cli/scripted_steering.h"

namespace evenkeel::cli {

namespace v1 = evenkeel::v1;

inline v1::Group ExampleGroup() {
  v1::Group group;
  group.mutable_info()->set_name("chat");
  group.mutable_info()->set_model("tiny");
  group.mutable_info()->set_num_layers(2);
  group.mutable_info()->mutable_shape()->set_num_experts(4);
  group.mutable_info()->mutable_shape()->set_num_ranks(2);
  group.mutable_info()->mutable_shape()->set_slots_per_rank(3);
  group.mutable_epoch()->set_term(1);
  group.mutable_epoch()->set_number(7);
  group.set_imbalance_now(1.25);
  for (uint32_t rank = 0; rank < 2; ++rank) {
    v1::MemberStatus* member = group.add_members();
    member->mutable_member()->set_rank(rank);
    member->set_attached(true);
    member->set_alive(true);
  }
  group.add_layers()->set_phase("steady");
  group.mutable_totals()->set_moves(12);
  return group;
}

inline v1::GroupMembership ExampleMembership() {
  v1::GroupMembership membership;
  membership.set_group("chat");
  membership.set_view_number(8);
  membership.set_ranks_max(4);
  membership.set_slots_per_rank(6);
  for (const auto standing :
       {v1::RANK_STANDING_SERVING, v1::RANK_STANDING_DRAINING, v1::RANK_STANDING_ABSENT, v1::RANK_STANDING_ABSENT}) {
    v1::RankStatus* rank = membership.add_ranks();
    rank->set_rank(static_cast<uint32_t>(membership.ranks_size() - 1));
    rank->set_standing(standing);
    rank->set_attached(standing != v1::RANK_STANDING_ABSENT);
    rank->set_alive(rank->attached());
    rank->set_incarnation(rank->attached() ? 5 : 0);
    rank->set_num_slots_live(rank->attached() ? 6 : 0);
  }
  membership.mutable_ranks(1)->set_operation("drain-1");
  membership.mutable_ranks(1)->set_note("is being emptied");
  membership.mutable_ranks(2)->set_waiting(true);
  return membership;
}

class ScriptedControl final : public ScriptedSteering {
 public:
  v1::Group group = ExampleGroup();
  v1::RearrangeRequest asked;
  v1::AdmitRankRequest admitted;
  v1::DrainRankRequest drained;
  v1::GroupMembership membership = ExampleMembership();
  std::vector<std::string> problems;

  grpc::Status Rearrange(grpc::ServerContext*, const v1::RearrangeRequest* request,
                         grpc::ServerWriter<v1::Operation>* writer) override {
    asked = *request;
    for (const v1::Operation& operation : operations) writer->Write(operation);
    return grpc::Status::OK;
  }
  grpc::Status AdmitRank(grpc::ServerContext*, const v1::AdmitRankRequest* request,
                         grpc::ServerWriter<v1::Operation>* writer) override {
    admitted = *request;
    for (const v1::Operation& operation : operations) writer->Write(operation);
    return grpc::Status::OK;
  }
  grpc::Status DrainRank(grpc::ServerContext*, const v1::DrainRankRequest* request,
                         grpc::ServerWriter<v1::Operation>* writer) override {
    drained = *request;
    if (operations.empty()) return {grpc::StatusCode::FAILED_PRECONDITION, "no room for 2 of experts 3, 7"};
    for (const v1::Operation& operation : operations) writer->Write(operation);
    return grpc::Status::OK;
  }
  grpc::Status GetMembership(grpc::ServerContext*, const v1::GetMembershipRequest*,
                             v1::GroupMembership* response) override {
    *response = membership;
    return grpc::Status::OK;
  }
  grpc::Status WatchMembership(grpc::ServerContext*, const v1::WatchMembershipRequest*,
                               grpc::ServerWriter<v1::GroupMembership>* writer) override {
    writer->Write(membership);
    membership.set_view_number(9);  // of no rank that is shown
    writer->Write(membership);
    membership.mutable_ranks(1)->set_standing(v1::RANK_STANDING_LEFT);
    membership.mutable_ranks(1)->set_safe_to_terminate(true);
    writer->Write(membership);
    return grpc::Status::OK;
  }
  grpc::Status ListGroups(grpc::ServerContext*, const v1::ListGroupsRequest*, v1::ListGroupsResponse* r) override {
    if (!group.info().name().empty()) *r->add_groups() = group;
    return grpc::Status::OK;
  }
  grpc::Status GetGroup(grpc::ServerContext*, const v1::GetGroupRequest* request, v1::Group* response) override {
    if (!request->group().empty() && request->group() != "chat")
      return {grpc::StatusCode::NOT_FOUND, "no group " + request->group()};
    *response = group;
    return grpc::Status::OK;
  }
  grpc::Status GetStats(grpc::ServerContext*, const v1::GetStatsRequest*, v1::GroupStats* response) override {
    *response = Stats();
    return grpc::Status::OK;
  }
  grpc::Status WatchStats(grpc::ServerContext*, const v1::WatchStatsRequest*,
                          grpc::ServerWriter<v1::StatsUpdate>* writer) override {
    v1::StatsUpdate update;
    *update.mutable_group() = group;
    *update.mutable_stats() = Stats();
    for (int i = 0; i < 2; ++i) {
      update.mutable_stats()->add_windows()->set_begin_unix_us(1);  // the same one told twice
      writer->Write(update);
      update.mutable_stats()->clear_windows();
    }
    return grpc::Status::OK;
  }
  grpc::Status Pause(grpc::ServerContext*, const v1::PauseRequest* request, v1::Operation* response) override {
    response->set_id("pause-1");
    response->set_group("chat");
    response->set_state(v1::OPERATION_STATE_RUNNING);
    response->set_detail(request->reason());
    group.set_paused_by("pause-1");
    group.set_pause_reason(request->reason());
    return grpc::Status::OK;
  }
  grpc::Status Resume(grpc::ServerContext*, const v1::ResumeRequest*, v1::Operation* response) override {
    if (group.paused_by().empty()) return {grpc::StatusCode::FAILED_PRECONDITION, "group chat is not paused"};
    response->set_id(group.paused_by());
    response->set_group("chat");
    response->set_state(v1::OPERATION_STATE_DONE);
    return grpc::Status::OK;
  }
  grpc::Status GetMap(grpc::ServerContext*, const v1::GetMapRequest*, v1::GroupMaps* response) override {
    response->mutable_shape()->set_num_experts(2);
    response->mutable_shape()->set_num_ranks(2);
    response->mutable_shape()->set_slots_per_rank(3);
    v1::LayerMap* map = response->add_layers()->mutable_map();
    map->add_replicas_of_expert(2);
    for (uint32_t slot : {0u, 4u}) map->add_slots(slot);
    map->add_bounds((1u << 30) - 1);
    map->add_bounds(UINT32_MAX);
    map->add_replicas_of_expert(0);
    return grpc::Status::OK;
  }
  grpc::Status CheckRedundancy(grpc::ServerContext*, const v1::CheckRedundancyRequest*,
                               v1::RedundancyReport* response) override {
    response->set_group("chat");
    response->set_ranks_may_be_lost_serving(1);
    response->mutable_problems()->Add(problems.begin(), problems.end());
    return grpc::Status::OK;
  }
  grpc::Status ListOperations(grpc::ServerContext*, const v1::ListOperationsRequest*,
                              v1::ListOperationsResponse* response) override {
    response->mutable_operations()->Add(operations.begin(), operations.end());
    return grpc::Status::OK;
  }
  grpc::Status CancelOperation(grpc::ServerContext*, const v1::CancelOperationRequest* request,
                               v1::Operation* response) override {
    for (const v1::Operation& operation : operations) {
      if (operation.id() != request->id()) continue;
      *response = operation;
      response->set_state(v1::OPERATION_STATE_CANCELLED);
      return grpc::Status::OK;
    }
    return {grpc::StatusCode::NOT_FOUND, "unknown operation " + request->id()};
  }
  grpc::Status WatchOperations(grpc::ServerContext*, const v1::WatchOperationsRequest*,
                               grpc::ServerWriter<v1::Operation>* writer) override {
    for (const v1::Operation& operation : operations) writer->Write(operation);
    return grpc::Status::OK;
  }

 private:
  static v1::GroupStats Stats() {
    v1::GroupStats stats;
    stats.set_group("chat");
    stats.set_tokens(400);
    stats.set_imbalance_realised(1.5);
    v1::LayerStats* layer = stats.add_layers();
    for (uint64_t tokens : {200u, 100u, 50u, 50u}) layer->add_tokens_of_expert(tokens);
    for (uint64_t tokens : {300u, 100u}) layer->add_tokens_of_rank(tokens);
    return stats;
  }
};

struct Server {
  Server() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&control);
    server = builder.BuildAndStart();
  }

  // Exit status; what was printed is in `out` and `err`.
  int Run(std::vector<std::string> words, bool terminal = false) {
    std::ostringstream out_stream, err_stream;
    const Surroundings surroundings{"127.0.0.1:" + std::to_string(port), terminal};
    const int status = RunKeelctl(words, surroundings, out_stream, err_stream);
    out = out_stream.str();
    err = err_stream.str();
    return status;
  }

  ScriptedControl control;
  int port = 0;
  std::unique_ptr<grpc::Server> server;
  std::string out, err;
};

inline v1::Operation ExampleOperation(v1::OperationState state) {
  v1::Operation operation;
  operation.set_id("op-1");
  operation.set_group("chat");
  operation.set_state(state);
  operation.set_num_moves(4);
  operation.set_num_moves_done(state == v1::OPERATION_STATE_RUNNING ? 1 : 4);
  operation.set_detail("because");
  return operation;
}

inline bool Contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace evenkeel::cli
