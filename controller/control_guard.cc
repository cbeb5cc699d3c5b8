// SPDX-License-Identifier: Apache-2.0
#include "controller/control_guard.h"

#include "controller/access/grpc_caller.h"
#include "controller/grpc_status.h"

namespace evenkeel::controller {
namespace {

ControlGuard::Unary* End(grpc::CallbackServerContext* context, const absl::Status& why) {
  ControlGuard::Unary* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(why));
  return reactor;
}

template <typename Message>
class EndedStream : public grpc::ServerWriteReactor<Message> {
 public:
  explicit EndedStream(const absl::Status& why) { this->Finish(ToGrpc(why)); }
  void OnDone() override { delete this; }
};

}  // namespace

absl::Status ControlGuard::Admit(const Context& context, const char* method) {
  // HTTP has asked the gate already.
  if (gate_.IsPass(MetadataOf(context, "evenkeel-pass"))) return absl::OkStatus();
  return gate_.Admit(CredentialsOf(context), method).status();
}

ControlGuard::OperationStream* ControlGuard::Rearrange(Context* context, const v1::RearrangeRequest* request) {
  const absl::Status admitted = Admit(*context, "Rearrange");
  if (!admitted.ok()) return new EndedStream<v1::Operation>(admitted);
  return calls_.Rearrange(context, request);
}

ControlGuard::Unary* ControlGuard::ListGroups(Context* context, const v1::ListGroupsRequest* request,
                                              v1::ListGroupsResponse* response) {
  const absl::Status admitted = Admit(*context, "ListGroups");
  if (!admitted.ok()) return End(context, admitted);
  return calls_.ListGroups(context, request, response);
}

ControlGuard::Unary* ControlGuard::GetGroup(Context* context, const v1::GetGroupRequest* request, v1::Group* response) {
  const absl::Status admitted = Admit(*context, "GetGroup");
  if (!admitted.ok()) return End(context, admitted);
  return calls_.GetGroup(context, request, response);
}

ControlGuard::Unary* ControlGuard::GetStats(Context* context, const v1::GetStatsRequest* request,
                                            v1::GroupStats* response) {
  const absl::Status admitted = Admit(*context, "GetStats");
  if (!admitted.ok()) return End(context, admitted);
  return calls_.GetStats(context, request, response);
}

grpc::ServerWriteReactor<v1::StatsUpdate>* ControlGuard::WatchStats(Context* context,
                                                                    const v1::WatchStatsRequest* request) {
  const absl::Status admitted = Admit(*context, "WatchStats");
  if (!admitted.ok()) return new EndedStream<v1::StatsUpdate>(admitted);
  return calls_.WatchStats(context, request);
}

ControlGuard::Unary* ControlGuard::GetMap(Context* context, const v1::GetMapRequest* request, v1::GroupMaps* response) {
  const absl::Status admitted = Admit(*context, "GetMap");
  if (!admitted.ok()) return End(context, admitted);
  return calls_.GetMap(context, request, response);
}

ControlGuard::Unary* ControlGuard::CheckRedundancy(Context* context, const v1::CheckRedundancyRequest* request,
                                                   v1::RedundancyReport* response) {
  const absl::Status admitted = Admit(*context, "CheckRedundancy");
  if (!admitted.ok()) return End(context, admitted);
  return calls_.CheckRedundancy(context, request, response);
}

ControlGuard::Unary* ControlGuard::GetMembership(Context* context, const v1::GetMembershipRequest* request,
                                                 v1::GroupMembership* response) {
  const absl::Status admitted = Admit(*context, "GetMembership");
  if (!admitted.ok()) return End(context, admitted);
  return calls_.GetMembership(context, request, response);
}

grpc::ServerWriteReactor<v1::GroupMembership>* ControlGuard::WatchMembership(
    Context* context, const v1::WatchMembershipRequest* request) {
  const absl::Status admitted = Admit(*context, "WatchMembership");
  if (!admitted.ok()) return new EndedStream<v1::GroupMembership>(admitted);
  return calls_.WatchMembership(context, request);
}

ControlGuard::OperationStream* ControlGuard::AdmitRank(Context* context, const v1::AdmitRankRequest* request) {
  const absl::Status admitted = Admit(*context, "AdmitRank");
  if (!admitted.ok()) return new EndedStream<v1::Operation>(admitted);
  return calls_.AdmitRank(context, request);
}

ControlGuard::OperationStream* ControlGuard::DrainRank(Context* context, const v1::DrainRankRequest* request) {
  const absl::Status admitted = Admit(*context, "DrainRank");
  if (!admitted.ok()) return new EndedStream<v1::Operation>(admitted);
  return calls_.DrainRank(context, request);
}

ControlGuard::Unary* ControlGuard::Pause(Context* context, const v1::PauseRequest* request, v1::Operation* response) {
  const absl::Status admitted = Admit(*context, "Pause");
  if (!admitted.ok()) return End(context, admitted);
  return calls_.Pause(context, request, response);
}

ControlGuard::Unary* ControlGuard::Resume(Context* context, const v1::ResumeRequest* request, v1::Operation* response) {
  const absl::Status admitted = Admit(*context, "Resume");
  if (!admitted.ok()) return End(context, admitted);
  return calls_.Resume(context, request, response);
}

ControlGuard::Unary* ControlGuard::SetMode(Context* context, const v1::SetModeRequest* request,
                                           v1::Operation* response) {
  const absl::Status admitted = Admit(*context, "SetMode");
  if (!admitted.ok()) return End(context, admitted);
  return calls_.SetMode(context, request, response);
}

ControlGuard::Unary* ControlGuard::Pin(Context* context, const v1::PinRequest* request, v1::Operation* response) {
  const absl::Status admitted = Admit(*context, "Pin");
  if (!admitted.ok()) return End(context, admitted);
  return calls_.Pin(context, request, response);
}

ControlGuard::Unary* ControlGuard::Unpin(Context* context, const v1::UnpinRequest* request,
                                         v1::UnpinResponse* response) {
  const absl::Status admitted = Admit(*context, "Unpin");
  if (!admitted.ok()) return End(context, admitted);
  return calls_.Unpin(context, request, response);
}

ControlGuard::OperationStream* ControlGuard::SetMap(Context* context, const v1::SetMapRequest* request) {
  const absl::Status admitted = Admit(*context, "SetMap");
  if (!admitted.ok()) return new EndedStream<v1::Operation>(admitted);
  return calls_.SetMap(context, request);
}

ControlGuard::OperationStream* ControlGuard::Rollback(Context* context, const v1::RollbackRequest* request) {
  const absl::Status admitted = Admit(*context, "Rollback");
  if (!admitted.ok()) return new EndedStream<v1::Operation>(admitted);
  return calls_.Rollback(context, request);
}

ControlGuard::Unary* ControlGuard::Diff(Context* context, const v1::DiffRequest* request, v1::MapDiff* response) {
  const absl::Status admitted = Admit(*context, "Diff");
  if (!admitted.ok()) return End(context, admitted);
  return calls_.Diff(context, request, response);
}

ControlGuard::Unary* ControlGuard::Plan(Context* context, const v1::PlanRequest* request, v1::PlanResponse* response) {
  const absl::Status admitted = Admit(*context, "Plan");
  if (!admitted.ok()) return End(context, admitted);
  return calls_.Plan(context, request, response);
}

ControlGuard::Unary* ControlGuard::CancelOperation(Context* context, const v1::CancelOperationRequest* request,
                                                   v1::Operation* response) {
  const absl::Status admitted = Admit(*context, "CancelOperation");
  if (!admitted.ok()) return End(context, admitted);
  return calls_.CancelOperation(context, request, response);
}

ControlGuard::Unary* ControlGuard::ListOperations(Context* context, const v1::ListOperationsRequest* request,
                                                  v1::ListOperationsResponse* response) {
  const absl::Status admitted = Admit(*context, "ListOperations");
  if (!admitted.ok()) return End(context, admitted);
  return calls_.ListOperations(context, request, response);
}

ControlGuard::OperationStream* ControlGuard::WatchOperations(Context* context,
                                                             const v1::WatchOperationsRequest* request) {
  const absl::Status admitted = Admit(*context, "WatchOperations");
  if (!admitted.ok()) return new EndedStream<v1::Operation>(admitted);
  return calls_.WatchOperations(context, request);
}

}  // namespace evenkeel::controller
