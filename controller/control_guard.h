// SPDX-License-Identifier: Apache-2.0
//
// ControlGuard: the Control service as it is served: each call passes the gate, then goes on to what answers it.
//
// A call that is not listed here is not served at all (UNIMPLEMENTED).
//
// Threads:   gRPC's.
// Owns:      nothing; calls and gate outlive it.
#pragma once

#include <grpcpp/support/server_callback.h>

#include "controller/access/gate.h"
#include "proto/evenkeel/v1/control.grpc.pb.h"

namespace evenkeel::controller {

class ControlGuard : public v1::Control::CallbackService {
 public:
  using Unary = grpc::ServerUnaryReactor;
  using Context = grpc::CallbackServerContext;
  using OperationStream = grpc::ServerWriteReactor<v1::Operation>;

  ControlGuard(v1::Control::CallbackService& calls, Gate& gate) : calls_(calls), gate_(gate) {}

  OperationStream* Rearrange(Context* context, const v1::RearrangeRequest* request) override;
  Unary* ListGroups(Context* context, const v1::ListGroupsRequest* request, v1::ListGroupsResponse* response) override;
  Unary* GetGroup(Context* context, const v1::GetGroupRequest* request, v1::Group* response) override;
  Unary* GetStats(Context* context, const v1::GetStatsRequest* request, v1::GroupStats* response) override;
  grpc::ServerWriteReactor<v1::StatsUpdate>* WatchStats(Context* context,
                                                        const v1::WatchStatsRequest* request) override;
  Unary* GetMap(Context* context, const v1::GetMapRequest* request, v1::GroupMaps* response) override;
  Unary* CheckRedundancy(Context* context, const v1::CheckRedundancyRequest* request,
                         v1::RedundancyReport* response) override;
  Unary* GetMembership(Context* context, const v1::GetMembershipRequest* request,
                       v1::GroupMembership* response) override;
  grpc::ServerWriteReactor<v1::GroupMembership>* WatchMembership(Context* context,
                                                                 const v1::WatchMembershipRequest* request) override;
  OperationStream* AdmitRank(Context* context, const v1::AdmitRankRequest* request) override;
  OperationStream* DrainRank(Context* context, const v1::DrainRankRequest* request) override;
  Unary* Pause(Context* context, const v1::PauseRequest* request, v1::Operation* response) override;
  Unary* Resume(Context* context, const v1::ResumeRequest* request, v1::Operation* response) override;
  Unary* SetMode(Context* context, const v1::SetModeRequest* request, v1::Operation* response) override;
  Unary* Pin(Context* context, const v1::PinRequest* request, v1::Operation* response) override;
  Unary* Unpin(Context* context, const v1::UnpinRequest* request, v1::UnpinResponse* response) override;
  OperationStream* SetMap(Context* context, const v1::SetMapRequest* request) override;
  OperationStream* Rollback(Context* context, const v1::RollbackRequest* request) override;
  Unary* Diff(Context* context, const v1::DiffRequest* request, v1::MapDiff* response) override;
  Unary* Plan(Context* context, const v1::PlanRequest* request, v1::PlanResponse* response) override;
  Unary* CancelOperation(Context* context, const v1::CancelOperationRequest* request, v1::Operation* response) override;
  Unary* ListOperations(Context* context, const v1::ListOperationsRequest* request,
                        v1::ListOperationsResponse* response) override;
  OperationStream* WatchOperations(Context* context, const v1::WatchOperationsRequest* request) override;

 private:
  absl::Status Admit(const Context& context, const char* method);

  v1::Control::CallbackService& calls_;
  Gate& gate_;
};

}  // namespace evenkeel::controller
