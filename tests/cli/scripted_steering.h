// SPDX-License-Identifier: Apache-2.0
//
// Of a Control service that answers from a script: the calls that steer a group beside rearranging it.
#pragma once

#include <grpcpp/server_context.h>

#include <string>
#include <vector>

#include "proto/evenkeel/v1/control.grpc.pb.h"

namespace evenkeel::cli {

namespace v1 = evenkeel::v1;

class ScriptedSteering : public v1::Control::Service {
 public:
  std::vector<v1::Operation> operations;
  v1::SetModeRequest mode_asked;
  v1::PinRequest pin_asked;
  v1::SetMapRequest map_asked;
  v1::RollbackRequest rollback_asked;
  v1::DiffRequest diff_asked;
  std::string asked_by;

  grpc::Status SetMode(grpc::ServerContext* context, const v1::SetModeRequest* request,
                       v1::Operation* response) override {
    mode_asked = *request;
    const auto user = context->client_metadata().find("evenkeel-user");
    asked_by = user == context->client_metadata().end() ? "" : std::string(user->second.data(), user->second.size());
    response->set_id("mode-1");
    response->set_group("chat");
    response->set_mode(request->mode());
    response->set_state(v1::OPERATION_STATE_RUNNING);
    return grpc::Status::OK;
  }
  grpc::Status Pin(grpc::ServerContext*, const v1::PinRequest* request, v1::Operation* response) override {
    pin_asked = *request;
    response->set_id("pin-1");
    response->set_group("chat");
    *response->mutable_pins() = request->pins();
    *response->mutable_frozen_layers() = request->frozen_layers();
    return grpc::Status::OK;
  }
  grpc::Status Unpin(grpc::ServerContext*, const v1::UnpinRequest* request, v1::UnpinResponse* response) override {
    for (const std::string& id : request->ids()) response->add_operations()->set_id(id);
    return grpc::Status::OK;
  }
  grpc::Status SetMap(grpc::ServerContext*, const v1::SetMapRequest* request,
                      grpc::ServerWriter<v1::Operation>* writer) override {
    map_asked = *request;
    for (const v1::Operation& operation : operations) writer->Write(operation);
    return grpc::Status::OK;
  }
  grpc::Status Rollback(grpc::ServerContext*, const v1::RollbackRequest* request,
                        grpc::ServerWriter<v1::Operation>* writer) override {
    rollback_asked = *request;
    for (const v1::Operation& operation : operations) writer->Write(operation);
    return grpc::Status::OK;
  }
  grpc::Status Diff(grpc::ServerContext*, const v1::DiffRequest* request, v1::MapDiff* response) override {
    diff_asked = *request;
    response->set_num_moves(3);
    v1::PlanPin* received = response->add_layers()->add_received();
    received->set_rank(1);
    received->set_expert(7);
    return grpc::Status::OK;
  }
};

}  // namespace evenkeel::cli
